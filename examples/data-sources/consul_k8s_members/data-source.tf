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

  # Small, and easy to remove. In production, omit these three.
  storage             = { size = "1Gi", retention = { when_deleted = "Delete" } }
  resources           = { requests = { cpu = "100m", memory = "256Mi" } }
  deletion_protection = false
}

resource "consul_k8s_acl_bootstrap" "main" {
  cluster = consul_k8s_cluster.main.id
}

data "consul_k8s_members" "main" {
  # With ACLs, refer to the bootstrap: the members are read with its token.
  cluster = consul_k8s_acl_bootstrap.main.cluster
}

# Warns after each plan and apply while a server is not healthy.
check "consul_is_healthy" {
  assert {
    condition     = data.consul_k8s_members.main.healthy && data.consul_k8s_members.main.failure_tolerance > 0
    error_message = "Consul would not survive the loss of a server."
  }
}

output "leader" {
  value = data.consul_k8s_members.main.leader
}

output "voters" {
  value = [for s in data.consul_k8s_members.main.servers : s.name if s.voter]
}
