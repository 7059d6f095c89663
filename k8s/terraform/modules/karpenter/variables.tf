variable "cluster_name" {
  type = string
}

variable "chart_registry" {
  type = string
}
