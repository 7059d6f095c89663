# Sizing as arithmetic alone: no provider, so `terraform test` runs it anywhere. The figures it
# starts from come from benchmarks/sizing.py; a test holds the two against each other.
terraform {
  required_version = ">= 1.9"
}

locals {
  pods_a_node = floor((var.node_cpu_m - var.daemons_cpu_m) / var.pod_cpu_m)

  # Pods by the rate at which the autoscaler's target is reached, not by what a pod can hold: the
  # autoscaler keeps that many in any case.
  pods_for_rate = ceil(var.rate / var.pod_rate_target)

  # A spot notice gives 120 s for a whole node. The disruption budget allows
  # floor(percent of pods) evictions at a time, and that must be a node's pods.
  pods_min = ceil(local.pods_a_node * 100 / var.disruption_percent)
  # As many zones can lose one, and what is left still carries the rate below what a pod holds.
  pods_zone_loss = ceil(ceil(var.rate / var.pod_rate_held) * var.zones / (var.zones - 1))

  replicas_min = max(local.pods_min, local.pods_zone_loss)
  # Room for a peak of so many times the rate, and never less than a roll-out's surge above it.
  replicas_max = max(ceil(local.pods_for_rate * var.peak_factor), ceil(local.replicas_min * 1.25))

  nodes_min = ceil(local.replicas_min / local.pods_a_node)
  # One node's worth of pause pods hides the time that a node takes to boot.
  nodes_max = ceil(local.replicas_max / local.pods_a_node) + 1

  evictions_at_once = floor(local.replicas_min * var.disruption_percent / 100)
  waves             = ceil(local.pods_a_node / local.evictions_at_once)
  node_drain_s      = var.reaction_s + local.waves * var.stop_s

  usd_a_million = local.nodes_min * var.node_usd_an_hour / (var.rate * 3600) * 1000000
}
