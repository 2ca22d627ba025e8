package cluster_test

import (
	"fmt"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

func putKey(t *testing.T, namespace, key, value string) error {
	t.Helper()
	return acctest.Consul(t, namespace, "consul").Any(t.Context(), "", func(c *api.Client) error {
		_, err := c.KV().Put(&api.KVPair{Key: key, Value: []byte(value)}, nil)
		return err
	})
}

func getKey(t *testing.T, namespace, key string) (value string, err error) {
	t.Helper()
	err = acctest.Consul(t, namespace, "consul").Any(t.Context(), "", func(c *api.Client) error {
		pair, _, err := c.KV().Get(key, &api.QueryOptions{RequireConsistent: true})
		if err != nil {
			return err
		}
		if pair == nil {
			return fmt.Errorf("the key %q does not exist", key)
		}
		value = string(pair.Value)
		return nil
	})
	return value, err
}
