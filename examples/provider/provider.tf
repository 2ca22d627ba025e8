terraform {
  required_providers {
    # The types of this provider start with consul_k8s_, so Terraform looks for
    # them in the provider that has the local name consul.
    consul = {
      source = "registry.terraform.io/consul-k8s/consul-k8s"
    }
  }
}

provider "consul" {
  config_path = "~/.kube/config"

  # config_context       = "production"
  # expected_cluster_uid = "4b2a7c1e-6d0f-4a55-9a0b-1f3c5d7e9b24"
}
