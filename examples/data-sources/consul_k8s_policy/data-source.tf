terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

resource "consul_k8s_cluster" "main" {
  name             = "consul"
  namespace        = "consul"
  create_namespace = true
  version          = "1.22.7"

  acl = { enabled = true }

  # Small, and easy to remove. In production, omit these four.
  replicas            = 1
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "256Mi" } }
  deletion_protection = false
}

resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}

data "consul_k8s_policy" "management" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "global-management"
}

output "rules" {
  value = data.consul_k8s_policy.management.rules
}
