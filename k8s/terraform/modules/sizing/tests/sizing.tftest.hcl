# `terraform test` or `tofu test` in this folder; no provider, no account, no network.
variables {
  rate               = 30000
  pod_rate_held      = 12000
  pod_rate_target    = 3900
  pod_cpu_m          = 1400
  node_cpu_m         = 7910
  daemons_cpu_m      = 400
  disruption_percent = 25
}

run "the_reference_rate" {
  command = plan
  assert {
    condition     = output.pods_for_rate == 8
    error_message = "30,000 / 3,900, rounded up, is 8: ${output.pods_for_rate}"
  }
  assert {
    condition     = output.pods_a_node == 5
    error_message = "7,510 m hold five pods of 1,400 m: ${output.pods_a_node}"
  }
  assert {
    condition     = output.replicas_min == 20 && output.nodes_min == 4
    error_message = "A quarter of 20 pods is a node's five: ${output.replicas_min}, ${output.nodes_min}"
  }
  assert {
    condition     = output.replicas_max == 25 && output.nodes_max == 6
    error_message = "Three times 8 is below the surge over 20: ${output.replicas_max}, ${output.nodes_max}"
  }
  assert {
    condition     = output.node_drain_s == 55
    error_message = "All five at once: 10 s and 45 s: ${output.node_drain_s}"
  }
}

run "ten_times_the_rate" {
  command = plan
  variables {
    rate = 300000
  }
  assert {
    condition     = output.pods_for_rate == 77 && output.replicas_max == 231
    error_message = "By the rate, not by the minimum: ${output.pods_for_rate}, ${output.replicas_max}"
  }
  assert {
    # 25 pods hold 300,000/s; with one zone of three gone they must be two thirds of what there is.
    condition     = output.replicas_min == 38
    error_message = "The loss of a zone decides: ${output.replicas_min}"
  }
}

run "exactly_full" {
  command = plan
  variables {
    rate          = 39000
    node_cpu_m    = 7400
    daemons_cpu_m = 400
  }
  assert {
    condition     = output.pods_for_rate == 10 && output.pods_a_node == 5
    error_message = "What divides evenly is not rounded up: ${output.pods_for_rate}, ${output.pods_a_node}"
  }
}

run "small_nodes_need_few" {
  command = plan
  variables {
    node_cpu_m = 3920
  }
  assert {
    condition     = output.pods_a_node == 2 && output.replicas_min == 8
    error_message = "${output.pods_a_node} a node, ${output.replicas_min} at least"
  }
}

run "cost" {
  command = plan
  variables {
    node_usd_an_hour = 0.27
  }
  assert {
    condition     = abs(output.usd_a_million - 0.01) < 1e-9
    error_message = "4 nodes x 0.27 USD for 108 million: ${output.usd_a_million}"
  }
}

run "a_target_beyond_what_is_held_is_refused" {
  command = plan
  variables {
    pod_rate_target = 12001
  }
  expect_failures = [var.pod_rate_target]
}

run "a_pod_that_fits_no_node_is_refused" {
  command = plan
  variables {
    node_cpu_m = 1799
  }
  expect_failures = [var.daemons_cpu_m]
}

run "a_budget_of_everything_is_refused" {
  command = plan
  variables {
    disruption_percent = 51
  }
  expect_failures = [var.disruption_percent]
}

run "a_node_that_drains_too_slowly_is_refused" {
  command = plan
  variables {
    stop_s = 101
  }
  expect_failures = [output.node_drain_s]
}
