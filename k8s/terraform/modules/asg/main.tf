# An auto scaling group for each service, as nodes/asg expects: label and taint say whose nodes they
# are, so that a burst of one service never takes the other's room.
resource "aws_iam_instance_profile" "node" {
  name_prefix = "${var.cluster_name}-node-"
  role        = var.node_role_name
}

resource "aws_eks_access_entry" "node" {
  cluster_name  = var.cluster_name
  principal_arn = data.aws_iam_role.node.arn
  type          = "EC2_LINUX"
}

data "aws_iam_role" "node" {
  name = var.node_role_name
}

resource "aws_launch_template" "this" {
  for_each               = var.groups
  name_prefix            = "${var.cluster_name}-${each.key}-"
  image_id               = var.ami_id
  update_default_version = true
  vpc_security_group_ids = [var.security_group_id]
  iam_instance_profile {
    arn = aws_iam_instance_profile.node.arn
  }
  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1 # pods have no business with the node's role
  }
  block_device_mappings {
    device_name = "/dev/xvda"
    ebs {
      volume_size           = 60 # images, and five pods' spools of 1.25 GiB at most
      volume_type           = "gp3"
      encrypted             = true
      delete_on_termination = true
    }
  }
  user_data = base64encode(templatefile("${path.module}/node.tftpl", {
    cluster_name = var.cluster_name
    cluster      = var.cluster
    service      = split("-", each.key)[0]
  }))
}

resource "aws_autoscaling_group" "this" {
  for_each            = var.groups
  name_prefix         = "${var.cluster_name}-${each.key}-"
  min_size            = each.value.min
  max_size            = each.value.max
  vpc_zone_identifier = [for zone in each.value.zones : var.subnet_ids[zone]]
  # A new node before the old one goes, when the group sees the notice first.
  capacity_rebalance = each.value.spot
  mixed_instances_policy {
    instances_distribution {
      on_demand_base_capacity                  = 0
      on_demand_percentage_above_base_capacity = each.value.spot ? 0 : 100
      spot_allocation_strategy                 = "price-capacity-optimized" # cheap is no use if it goes at once
    }
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.this[each.key].id
        version            = aws_launch_template.this[each.key].latest_version
      }
      dynamic "override" {
        for_each = each.value.instance_types
        content {
          instance_type = override.value
        }
      }
    }
  }
  # The termination handler completes it when the node is drained; else it is gone after 150 s.
  initial_lifecycle_hook {
    name                 = "drain"
    lifecycle_transition = "autoscaling:EC2_INSTANCE_TERMINATING"
    heartbeat_timeout    = 150
    default_result       = "CONTINUE"
  }
  dynamic "tag" {
    for_each = {
      "kubernetes.io/cluster/${var.cluster_name}"                 = "owned"
      "k8s.io/cluster-autoscaler/enabled"                         = "true"
      "k8s.io/cluster-autoscaler/${var.cluster_name}"             = "owned"
      "k8s.io/cluster-autoscaler/node-template/label/adcore/pool" = split("-", each.key)[0]
      "k8s.io/cluster-autoscaler/node-template/taint/adcore/pool" = "${split("-", each.key)[0]}:NoSchedule"
      "aws-node-termination-handler/managed"                      = "true"
    }
    content {
      key                 = tag.key
      value               = tag.value
      propagate_at_launch = true
    }
  }
  lifecycle {
    ignore_changes = [desired_capacity] # the cluster autoscaler's
  }
}
