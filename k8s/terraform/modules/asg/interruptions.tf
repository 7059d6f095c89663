# What tells of nodes that are about to go, on a queue that the termination handler reads.
resource "aws_sqs_queue" "notices" {
  name                      = "${var.cluster_name}-node-notices"
  message_retention_seconds = 300 # older ones are about nodes that are gone
  sqs_managed_sse_enabled   = true
}

data "aws_iam_policy_document" "notices" {
  statement {
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.notices.arn]
    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com", "sqs.amazonaws.com"]
    }
  }
}

resource "aws_sqs_queue_policy" "notices" {
  queue_url = aws_sqs_queue.notices.url
  policy    = data.aws_iam_policy_document.notices.json
}

locals {
  notices = {
    spot      = { source = ["aws.ec2"], detail-type = ["EC2 Spot Instance Interruption Warning"] }
    rebalance = { source = ["aws.ec2"], detail-type = ["EC2 Instance Rebalance Recommendation"] }
    state     = { source = ["aws.ec2"], detail-type = ["EC2 Instance State-change Notification"] }
    health    = { source = ["aws.health"], detail-type = ["AWS Health Event"] }
    group     = { source = ["aws.autoscaling"], detail-type = ["EC2 Instance-terminate Lifecycle Action"] }
  }
}

resource "aws_cloudwatch_event_rule" "notices" {
  for_each      = local.notices
  name_prefix   = "${var.cluster_name}-${each.key}-"
  event_pattern = jsonencode(each.value)
}

resource "aws_cloudwatch_event_target" "notices" {
  for_each  = local.notices
  rule      = aws_cloudwatch_event_rule.notices[each.key].name
  target_id = "node-notices"
  arn       = aws_sqs_queue.notices.arn
}

module "termination_identity" {
  source                                      = "terraform-aws-modules/eks-pod-identity/aws"
  version                                     = "2.6.0"
  name                                        = "${var.cluster_name}-termination"
  attach_aws_node_termination_handler_policy  = true
  aws_node_termination_handler_sqs_queue_arns = [aws_sqs_queue.notices.arn]
  associations = {
    this = {
      cluster_name    = var.cluster_name
      namespace       = "kube-system"
      service_account = "aws-node-termination-handler"
    }
  }
}

# Queue mode: a Deployment that knows all nodes, where a daemon on the dying node would go with it.
resource "helm_release" "termination_handler" {
  name       = "aws-node-termination-handler"
  repository = var.chart_registry
  chart      = "aws-node-termination-handler"
  version    = "0.27.3"
  namespace  = "kube-system"
  atomic     = true
  values = [yamlencode({
    replicas                       = 2
    awsRegion                      = var.region
    enableSqsTerminationDraining   = true
    queueURL                       = aws_sqs_queue.notices.url
    enableSpotInterruptionDraining = true
    enableScheduledEventDraining   = true
    # The groups act on recommendations (capacity_rebalance), and end the old node when the new one
    # is there; draining at once would halve a fleet that is merely at risk.
    enableRebalanceDraining    = false
    checkTagBeforeDraining     = true
    managedTag                 = "aws-node-termination-handler/managed"
    podTerminationGracePeriod  = -1 # each pod's own: 60 s for the front, 90 s for the ledger
    nodeTerminationGracePeriod = 110
    workers                    = 50 # a spot storm takes many nodes in the same second
    nodeSelector               = { "adcore/pool" = "system" }
  })]
  depends_on = [module.termination_identity]
}
