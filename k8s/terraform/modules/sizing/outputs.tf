output "pods_for_rate" {
  description = "Pods that the autoscaler settles at under the rate."
  value       = local.pods_for_rate
}

output "pods_a_node" {
  value = local.pods_a_node
}

output "replicas_min" {
  value = local.replicas_min
}

output "replicas_max" {
  value = local.replicas_max
}

output "nodes_min" {
  value = local.nodes_min
}

output "nodes_max" {
  value = local.nodes_max
}

output "node_drain_s" {
  description = "How long a node with a spot notice takes until its last pod has ended."
  value       = local.node_drain_s
  precondition {
    condition     = local.node_drain_s <= var.notice_s
    error_message = "Draining takes longer than a spot notice lasts: more replicas, or fewer pods a node."
  }
}

output "usd_a_million" {
  value = local.usd_a_million
}
