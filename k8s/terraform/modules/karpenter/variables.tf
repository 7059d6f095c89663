variable "cluster_name" {
  type = string
}

variable "chart_registry" {
  type = string
}

variable "subnet_ids" {
  type = map(string)
}

variable "security_group_id" {
  type = string
}
