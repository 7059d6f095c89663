variable "cluster_name" {
  type = string
}

variable "region" {
  type = string
}

variable "cluster" {
  description = "What a node must know to join."
  type = object({
    endpoint     = string
    certificate  = string
    service_cidr = string
  })
}

variable "node_role_name" {
  type = string
}

variable "security_group_id" {
  type = string
}

variable "subnet_ids" {
  type = map(string)
}

variable "ami_id" {
  type = string
  validation {
    condition     = startswith(var.ami_id, "ami-")
    error_message = "Auto scaling groups need an AMI: name the one that was tried."
  }
}

variable "chart_registry" {
  type = string
}

variable "groups" {
  description = "By name, whose part before the hyphen is the label and taint of its nodes."
  type = map(object({
    zones          = list(string)
    instance_types = list(string)
    spot           = bool
    min            = number
    max            = number
  }))
}
