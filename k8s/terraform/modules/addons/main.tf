# Add-ons that EKS itself keeps, for Kubernetes 1.34. To upgrade, ask which versions it offers:
#   aws eks describe-addon-versions --kubernetes-version 1.34 --addon-name NAME
locals {
  addons = {
    vpc-cni = {
      version = "v1.20.4-eksbuild.1"
      # NetworkPolicies are enforced by the CNI's own agent. Prefixes: addresses by 16, so that a
      # dozen pods that start at once on a new node need one call.
      values = { enableNetworkPolicy = "true", env = { ENABLE_PREFIX_DELEGATION = "true" } }
    }
    kube-proxy = {
      version = "v1.34.0-eksbuild.4" # as the cluster's; never newer than it
      values  = {}
    }
    coredns = {
      version = "v1.12.4-eksbuild.1"
      # Scaled by nodes and cores. Two would do for the rate, since pods look up little; four, so
      # that a zone may go while a node of the others is drained.
      values = {
        autoScaling  = { enabled = true, minReplicas = 4, maxReplicas = 12 }
        nodeSelector = { "adcore/pool" = "system" }
      }
    }
    aws-ebs-csi-driver = {
      version = "v1.54.0-eksbuild.1" # the aggregators' disks
      values  = {}
    }
    eks-pod-identity-agent = {
      version = "v1.3.9-eksbuild.3" # roles for the charts below, with no key anywhere
      values  = {}
    }
    metrics-server = {
      version = "v0.8.0-eksbuild.2" # what the autoscaler of the front reads
      values  = { nodeSelector = { "adcore/pool" = "system" } }
    }
  }
}

resource "aws_eks_addon" "this" {
  for_each                    = local.addons
  cluster_name                = var.cluster_name
  addon_name                  = each.key
  addon_version               = each.value.version
  configuration_values        = length(each.value.values) > 0 ? jsonencode(each.value.values) : null
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE" # what stands here is what runs
}

module "ebs_identity" {
  source                    = "terraform-aws-modules/eks-pod-identity/aws"
  version                   = "2.6.0" # its policies are those of the projects, kept up by many
  name                      = "${var.cluster_name}-ebs-csi"
  attach_aws_ebs_csi_policy = true
  associations = {
    this = {
      cluster_name    = var.cluster_name
      namespace       = "kube-system"
      service_account = "ebs-csi-controller-sa"
    }
  }
}
