# Karpenter: a node for each pod that finds no room, and a replacement at the moment of the spot
# notice. Its NodePools are manifests (k8s/cluster/karpenter), reviewed with the pods they hold.
module "karpenter" {
  source                        = "terraform-aws-modules/eks/aws//modules/karpenter"
  version                       = "21.8.0" # 21: Pod Identity alone, and the policy of Karpenter 1
  cluster_name                  = var.cluster_name
  namespace                     = "kube-system"
  service_account               = "karpenter"
  node_iam_role_use_name_prefix = false # k8s/cluster/karpenter names it
  node_iam_role_name            = "${var.cluster_name}-node"
}

# How the EC2NodeClass finds them.
resource "aws_ec2_tag" "discovery" {
  for_each    = merge(var.subnet_ids, { security_group = var.security_group_id })
  resource_id = each.value
  key         = "karpenter.sh/discovery"
  value       = var.cluster_name
}

resource "helm_release" "crds" {
  name       = "karpenter-crd" # of its own: Helm upgrades no CRD that lies in a chart's crds/
  repository = var.chart_registry
  chart      = "karpenter-crd"
  version    = local.version
  namespace  = "kube-system"
  atomic     = true
}

resource "helm_release" "karpenter" {
  name       = "karpenter"
  repository = var.chart_registry
  chart      = "karpenter"
  version    = local.version
  namespace  = "kube-system"
  atomic     = true
  skip_crds  = true
  values = [yamlencode({
    replicas     = 2
    nodeSelector = { "adcore/pool" = "system" } # never on a node that it might end
    settings = {
      clusterName = var.cluster_name
      # The name as of 0.33. Under its old one it is ignored in silence, and nodes end undrained.
      interruptionQueue = module.karpenter.queue_name
    }
    controller = {
      resources = {
        requests = { cpu = "500m", memory = "1Gi" }
        limits   = { memory = "1Gi" }
      }
    }
  })]
  depends_on = [helm_release.crds]
}

locals {
  version = "1.8.1" # for Kubernetes 1.34; NodePool and EC2NodeClass v1
}
