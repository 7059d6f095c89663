module "autoscaler_identity" {
  source                           = "terraform-aws-modules/eks-pod-identity/aws"
  version                          = "2.6.0"
  name                             = "${var.cluster_name}-autoscaler"
  attach_cluster_autoscaler_policy = true
  cluster_autoscaler_cluster_names = [var.cluster_name]
  associations = {
    this = {
      cluster_name    = var.cluster_name
      namespace       = "kube-system"
      service_account = "cluster-autoscaler"
    }
  }
}

# It takes a minute or two to have a node; components/overprovision hides that behind pause pods.
resource "helm_release" "autoscaler" {
  name       = "cluster-autoscaler"
  repository = var.chart_registry
  chart      = "cluster-autoscaler"
  version    = "9.52.1" # 1.34: of the cluster's minor version
  namespace  = "kube-system"
  atomic     = true
  values = [yamlencode({
    autoDiscovery = { clusterName = var.cluster_name }
    awsRegion     = var.region
    nodeSelector  = { "adcore/pool" = "system" }
    rbac          = { serviceAccount = { name = "cluster-autoscaler" } }
    extraArgs = {
      expander                         = "least-waste"
      balance-similar-node-groups      = true
      scan-interval                    = "10s"
      scale-down-unneeded-time         = "10m" # a valley that is shorter costs less than a start
      scale-down-utilization-threshold = 0.5
      expendable-pods-priority-cutoff  = -11   # pause pods have -10 and must count
      skip-nodes-with-local-storage    = false # spools are handed over when a pod ends
    }
  })]
  depends_on = [module.autoscaler_identity]
}
