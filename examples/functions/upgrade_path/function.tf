terraform {
  required_providers {
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

# The versions to apply one after the other: ["1.20.x", "1.22.7"].
output "steps" {
  value = provider::consul::upgrade_path("1.18.2", "1.22.7")
}
