output "front_replicas_min" {
  description = "minReplicas of the front's autoscaler must be at least this."
  value       = module.sizing.replicas_min
}

output "front_replicas_max" {
  description = "maxReplicas of the front's autoscaler must be at least this."
  value       = module.sizing.replicas_max
}

output "node_drain_s" {
  description = "How long a node with a spot notice takes, of 120 s."
  value       = module.sizing.node_drain_s
}

output "karpenter_node_role" {
  description = "`role` of the EC2NodeClass in k8s/cluster/karpenter."
  value       = one(module.karpenter[*].node_role_name)
}
