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

resource "consul_k8s_policy" "config" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "config-read"
  rules   = "key_prefix \"config/\" { policy = \"read\" }"
}

resource "consul_k8s_role" "web" {
  cluster            = consul_k8s_acl_bootstrap.main.cluster
  name               = "web"
  description        = "The web tier"
  policies           = [consul_k8s_policy.config.name]
  service_identities = [{ service_name = "web" }]
}
