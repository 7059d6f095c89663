output "node_role_name" {
  value = module.karpenter.node_iam_role_name
}
