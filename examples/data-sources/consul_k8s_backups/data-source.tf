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

locals {
  # The Secret has the keys RESTIC_PASSWORD, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY.
  repository = {
    url                = "s3:https://s3.example.com/bucket/consul"
    credentials_secret = "restic"
  }
}

resource "consul_k8s_backup_schedule" "hourly" {
  cluster    = consul_k8s_acl_bootstrap.main.cluster
  name       = "hourly"
  repository = local.repository
  retention  = { hourly = 24, daily = 7 }
}

data "consul_k8s_backups" "all" {
  cluster    = consul_k8s_backup_schedule.hourly.cluster
  repository = local.repository
  schedule   = "hourly"
}

output "backups" {
  value = [for b in data.consul_k8s_backups.all.backups : "${b.time} ${b.id} Consul ${b.version} index ${b.index}"]
}
