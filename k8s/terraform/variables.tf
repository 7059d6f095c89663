variable "region" {
  description = "AWS region of the cluster."
  type        = string
}

variable "cluster_name" {
  description = "An EKS cluster that is there, of Kubernetes 1.34: sidecars since 1.33, preStop sleep since 1.34."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets for nodes, one a zone: {zone = subnet}. Zones are not interchangeable: disks live in one."
  type        = map(string)
  validation {
    condition     = length(var.subnet_ids) >= 2
    error_message = "Two zones at least; one of them may be lost."
  }
}

variable "chart_registry" {
  description = "Your own OCI mirror of the charts and images, oci://HOST/PATH. Nodes start by the dozen in a spot storm, and public registries limit rates."
  type        = string
  validation {
    condition     = startswith(var.chart_registry, "oci://")
    error_message = "oci://HOST/PATH."
  }
}

variable "nodes" {
  description = "Who starts nodes: karpenter, or asg (cluster autoscaler and node termination handler)."
  type        = string
  default     = "karpenter"
  validation {
    condition     = contains(["karpenter", "asg"], var.nodes)
    error_message = "karpenter or asg."
  }
}

variable "front_instance_types" {
  description = "Spot types of the front's nodes: 8 vCPU each, of many families, so that no one pool's end is ours."
  type        = list(string)
  default     = ["c6i.2xlarge", "c6a.2xlarge", "c7i.2xlarge", "c7a.2xlarge", "m6i.2xlarge", "m6a.2xlarge", "m7i.2xlarge", "m7a.2xlarge"]
  validation {
    condition     = length(var.front_instance_types) >= 6
    error_message = "Six types at least: spot pools run dry one at a time."
  }
}

variable "ledger_instance_types" {
  description = "On-demand types of the aggregators' nodes."
  type        = list(string)
  default     = ["m7i.xlarge", "m6i.xlarge"]
}

variable "ami_id" {
  description = "The AMI of nodes that auto scaling groups start (AL2023 for EKS); a new one is a roll-out. Not needed with karpenter."
  type        = string
  default     = ""
}

variable "datadog_secret" {
  description = "Name of the Secret in kube-system with the agent's key; empty: no agent."
  type        = string
  default     = ""
}

variable "sizing" {
  description = "Of sizing.auto.tfvars.json, which benchmarks/sizing.py writes from the last results."
  type = object({
    rate               = number
    pod_rate_held      = number
    pod_rate_target    = number
    pod_cpu_m          = number
    node_cpu_m         = number
    daemons_cpu_m      = number
    disruption_percent = number
  })
}
