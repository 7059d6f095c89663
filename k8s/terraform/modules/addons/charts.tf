module "load_balancer_identity" {
  source                          = "terraform-aws-modules/eks-pod-identity/aws"
  version                         = "2.6.0"
  name                            = "${var.cluster_name}-load-balancer"
  attach_aws_lb_controller_policy = true
  associations = {
    this = {
      cluster_name    = var.cluster_name
      namespace       = "kube-system"
      service_account = "aws-load-balancer-controller"
    }
  }
}

# 1.14: Gateway API and readiness gates by label. Its webhook injects the gates, and a pod without
# one takes part in a roll-out before the balancer knows it: so it must fail rather than be skipped,
# and it looks at our namespaces alone, or no system pod could start while it is away.
resource "helm_release" "load_balancer" {
  name       = "aws-load-balancer-controller"
  repository = var.chart_registry
  chart      = "aws-load-balancer-controller"
  version    = "1.14.1"
  namespace  = "kube-system"
  atomic     = true
  values = [yamlencode({
    clusterName  = var.cluster_name
    region       = var.region
    vpcId        = var.vpc_id
    replicaCount = 2
    nodeSelector = { "adcore/pool" = "system" }
    podDisruptionBudget = {
      maxUnavailable = 1
    }
    podMutatorWebhookConfig = {
      failurePolicy = "Fail"
      objectSelector = {
        matchExpressions = [{ key = "app.kubernetes.io/name", operator = "In", values = ["adcore"] }]
      }
    }
  })]
  depends_on = [aws_eks_addon.this, module.load_balancer_identity]
}

# One agent a node, found by the pods' annotations (components/observability). No APM, no logs: the
# first is OpenTelemetry's here, and the second would be each pod's JSON lines twice.
resource "helm_release" "datadog" {
  count      = var.datadog_secret == "" ? 0 : 1
  name       = "datadog"
  repository = var.chart_registry
  chart      = "datadog"
  version    = "3.146.0" # agent 7.7x: OpenMetrics V2 reads what /metrics writes
  namespace  = "kube-system"
  atomic     = true
  values = [yamlencode({
    datadog = {
      apiKeyExistingSecret = var.datadog_secret
      clusterName          = var.cluster_name
      apm                  = { portEnabled = false, socketEnabled = false }
      logs                 = { enabled = false }
      kubeStateMetricsCore = { enabled = true }
    }
    agents = {
      tolerations = [{ operator = "Exists" }] # on every node, whatever its taint
      containers = {
        agent = {
          resources = {
            requests = { cpu = "200m", memory = "256Mi" } # of sizing's daemons_cpu_m
            limits   = { memory = "256Mi" }
          }
        }
      }
    }
  })]
  depends_on = [aws_eks_addon.this]
}
