# What the cluster needs around adcore, and the nodes it runs on. The cluster itself and its network
# are somebody else's: they outlive this and are seldom touched.
data "aws_eks_cluster" "this" {
  name = var.cluster_name
}

module "sizing" {
  source             = "./modules/sizing"
  rate               = var.sizing.rate
  pod_rate_held      = var.sizing.pod_rate_held
  pod_rate_target    = var.sizing.pod_rate_target
  pod_cpu_m          = var.sizing.pod_cpu_m
  node_cpu_m         = var.sizing.node_cpu_m
  daemons_cpu_m      = var.sizing.daemons_cpu_m
  disruption_percent = var.sizing.disruption_percent
  zones              = length(var.subnet_ids)
}

# System pods have nodes of their own, on demand: what drains and starts nodes must not be drained.
resource "aws_eks_node_group" "system" {
  cluster_name    = var.cluster_name
  node_group_name = "system"
  node_role_arn   = local.node_role_arn
  subnet_ids      = values(var.subnet_ids)
  instance_types  = ["m7i.large"]
  capacity_type   = "ON_DEMAND"
  labels          = { "adcore/pool" = "system" }
  scaling_config {
    min_size     = 2
    max_size     = 4
    desired_size = 2
  }
  update_config {
    max_unavailable = 1
  }
  lifecycle {
    ignore_changes = [scaling_config[0].desired_size]
  }
}

module "addons" {
  source         = "./modules/addons"
  cluster_name   = var.cluster_name
  region         = var.region
  vpc_id         = data.aws_eks_cluster.this.vpc_config[0].vpc_id
  chart_registry = var.chart_registry
  datadog_secret = var.datadog_secret
  depends_on     = [aws_eks_node_group.system]
}

module "karpenter" {
  count             = var.nodes == "karpenter" ? 1 : 0
  source            = "./modules/karpenter"
  cluster_name      = var.cluster_name
  subnet_ids        = var.subnet_ids
  security_group_id = data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  chart_registry    = var.chart_registry
  depends_on        = [aws_eks_node_group.system]
}

module "asg" {
  count             = var.nodes == "asg" ? 1 : 0
  source            = "./modules/asg"
  cluster_name      = var.cluster_name
  region            = var.region
  cluster           = local.cluster
  node_role_name    = aws_iam_role.node.name
  security_group_id = data.aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
  subnet_ids        = var.subnet_ids
  ami_id            = var.ami_id
  chart_registry    = var.chart_registry
  groups = merge(
    {
      front = {
        zones          = keys(var.subnet_ids)
        instance_types = var.front_instance_types
        spot           = true
        min            = module.sizing.nodes_min
        max            = module.sizing.nodes_max
      }
    },
    # An aggregator's disk lies in one zone, so its node must come back there: a group a zone.
    {
      for zone in keys(var.subnet_ids) : "ledger-${zone}" => {
        zones          = [zone]
        instance_types = var.ledger_instance_types
        spot           = false
        min            = 0
        max            = 3
      }
    },
  )
  depends_on = [aws_eks_node_group.system]
}

locals {
  node_role_arn = aws_iam_role.node.arn
  cluster = {
    endpoint     = data.aws_eks_cluster.this.endpoint
    certificate  = data.aws_eks_cluster.this.certificate_authority[0].data
    service_cidr = data.aws_eks_cluster.this.kubernetes_network_config[0].service_ipv4_cidr
  }
}

# -- the role of nodes that are not Karpenter's
data "aws_partition" "this" {}

data "aws_iam_policy_document" "node" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name_prefix        = "${var.cluster_name}-fixed-node-" # not Karpenter's, which is named
  assume_role_policy = data.aws_iam_policy_document.node.json
}

resource "aws_iam_role_policy_attachment" "node" {
  for_each   = toset(["AmazonEKSWorkerNodePolicy", "AmazonEC2ContainerRegistryPullOnly", "AmazonEKS_CNI_Policy"])
  role       = aws_iam_role.node.name
  policy_arn = "arn:${data.aws_partition.this.partition}:iam::aws:policy/${each.value}"
}
