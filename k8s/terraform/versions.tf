# What is pinned and why. Providers by their exact version: a plan that was read is the plan that is
# applied. State lies where `-backend-config` says; nothing of an account stands in this folder.
terraform {
  required_version = ">= 1.9"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "6.20.0" # 6.2 is the oldest that the modules below take
    }
    helm = {
      source  = "hashicorp/helm"
      version = "3.1.0" # 3: `kubernetes` and `registries` are attributes
    }
  }
  backend "s3" {
    use_lockfile = true # without it two people apply at once
    encrypt      = true
  }
}

provider "aws" {
  region = var.region
  default_tags {
    tags = { project = "adcore", cluster = var.cluster_name }
  }
}

provider "helm" {
  kubernetes = {
    host                   = data.aws_eks_cluster.this.endpoint
    cluster_ca_certificate = base64decode(data.aws_eks_cluster.this.certificate_authority[0].data)
    # A token that is fetched when it is needed: one in the state would lie there for everybody.
    exec = {
      api_version = "client.authentication.k8s.io/v1beta1"
      command     = "aws"
      args        = ["eks", "get-token", "--cluster-name", var.cluster_name, "--region", var.region]
    }
  }
}
