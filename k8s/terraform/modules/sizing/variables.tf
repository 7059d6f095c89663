variable "rate" {
  description = "Requests a second that must be served."
  type        = number
  validation {
    condition     = var.rate > 0
    error_message = "A rate above 0."
  }
}

variable "pod_rate_held" {
  description = "Requests a second at which a pod still keeps p99 below 10 ms, open loop."
  type        = number
}

variable "pod_rate_target" {
  description = "Requests a second at which a pod's api container takes the autoscaler's 60 % of a core."
  type        = number
  validation {
    condition     = var.pod_rate_target > 0 && var.pod_rate_target <= var.pod_rate_held
    error_message = "The autoscaler must act before a pod is at its end: target <= held."
  }
}

variable "pod_cpu_m" {
  description = "CPU requests of all containers of a front pod, in thousandths of a core."
  type        = number
}

variable "node_cpu_m" {
  description = "Allocatable CPU of a node, in thousandths of a core."
  type        = number
}

variable "daemons_cpu_m" {
  description = "What daemon sets request of each node, in thousandths of a core."
  type        = number
  validation {
    condition     = var.node_cpu_m - var.daemons_cpu_m >= var.pod_cpu_m
    error_message = "Not one pod fits a node."
  }
}

variable "disruption_percent" {
  description = "maxUnavailable of the front's PodDisruptionBudget, in percent."
  type        = number
  validation {
    condition     = var.disruption_percent >= 1 && var.disruption_percent <= 50
    error_message = "From 1 to 50: more than half at once is no budget."
  }
}

variable "zones" {
  description = "Availability zones; one of them may be lost."
  type        = number
  default     = 3
  validation {
    condition     = var.zones >= 2
    error_message = "Two zones at least."
  }
}

variable "peak_factor" {
  description = "The peak over the rate that is sized for: the day's trough to its peak is 1 to 3."
  type        = number
  default     = 3
}

variable "stop_s" {
  description = "How long a pod takes to end: hook 25 to 40 s, then a second or two."
  type        = number
  default     = 45
}

variable "reaction_s" {
  description = "From the spot notice until the node's pods are being evicted."
  type        = number
  default     = 10
}

variable "notice_s" {
  description = "What of the 120 s of a spot notice may be used."
  type        = number
  default     = 110
}

variable "node_usd_an_hour" {
  description = "Price of a node; an input, with no bearing on any count here."
  type        = number
  default     = 0
}
