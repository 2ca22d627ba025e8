# The Role, in the namespace of the cluster.
kubectl -n consul apply -f apply.yaml
# The ServiceAccount that gets it.
kubectl -n consul create serviceaccount terraform
kubectl -n consul create rolebinding terraform --role=consul-apply --serviceaccount=consul:terraform
# A token for the provider block, or for KUBE_TOKEN. It expires by itself.
kubectl -n consul create token terraform --duration=4h
