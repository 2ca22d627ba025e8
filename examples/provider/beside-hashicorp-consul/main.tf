terraform {
  required_providers {
    consul-k8s = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }

    # consul = {
    #   source = "hashicorp/consul"
    # }
  }
}

# The environment variable KUBE_CONFIG_PATH names the Kubernetes cluster.
provider "consul-k8s" {}

resource "consul_k8s_cluster" "main" {
  provider = consul-k8s

  name             = "consul"
  namespace        = "consul"
  create_namespace = true
  version          = "1.22.7"

  # Small, and easy to remove. In production, omit these four.
  replicas            = 1
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "256Mi" } }
  deletion_protection = false
}

data "consul_k8s_members" "main" {
  provider = consul-k8s

  cluster = consul_k8s_cluster.main.id
}
