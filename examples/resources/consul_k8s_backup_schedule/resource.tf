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
resource "consul_k8s_backup_schedule" "hourly" {
  cluster   = consul_k8s_acl_bootstrap.main.cluster
  name      = "hourly"
  schedule  = "40 * * * *"
  time_zone = "Etc/UTC"

  repository = {
    url                = "s3:https://s3.example.com/bucket/consul"
    credentials_secret = "restic"
  }

  retention = { hourly = 24, daily = 7, weekly = 4, monthly = 6 }

  prune = { schedule = "0 3 * * 0" }
  check = { schedule = "0 4 * * *", parts = 7 }
  drill = { schedule = "0 5 * * 1" }
}
