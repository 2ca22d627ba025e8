terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

resource "consul_k8s_cluster" "main" {
  name      = "consul"
  namespace = "consul"
  version   = "1.22.7"

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

# The Secret has the keys RESTIC_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
resource "consul_k8s_snapshot" "before_migration" {
  cluster = consul_k8s_acl_bootstrap.main.cluster
  name    = "before-migration"

  repository = {
    url                = "s3:https://s3.example.com/bucket/consul"
    credentials_secret = "restic"
  }

  triggers = { release = "2026-11" } # another value takes another snapshot
}
