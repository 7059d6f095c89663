variable "cluster_name" {
  type = string
}

variable "region" {
  type = string
}

variable "vpc_id" {
  type = string
}

variable "chart_registry" {
  type = string
}

variable "datadog_secret" {
  type = string
}
