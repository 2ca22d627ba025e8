package cluster_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-testing/helper/resource"
	"github.com/hashicorp/terraform-plugin-testing/terraform"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
)

// An overload that request limits answer with 429 removes no server from the Service, although the probe has no
// token.
func TestAccCluster_staysReadyUnderEnforcedRequestLimits(t *testing.T) {
	acctest.PreCheck(t)
	t.Parallel()
	namespace := acctest.Namespace(t)
	test(t, resource.TestCase{
		CheckDestroy: acctest.NothingLeft(t, namespace),
		Steps: []resource.TestStep{{
			Config: hclVersion(namespace, acctest.ConsulVersion, `
  replicas     = 1
  acl          = { enabled = true }
  extra_config = jsonencode({ limits = { request_limits = { mode = "enforcing", read_rate = 8, write_rate = 4 } } })
`),
			Check: func(*terraform.State) error { return overload(t, namespace, 15*time.Second) },
		}},
	})
}

// overload reads faster than the limits allow, and returns an error if a server is not ready meanwhile, or refuses
// too few requests.
func overload(t *testing.T, namespace string, lasts time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), lasts)
	defer cancel()
	c := acctest.Consul(t, namespace, "consul")
	pods, err := c.Pods(ctx)
	if err != nil || len(pods) != 1 {
		return fmt.Errorf("there are %d pods: %w", len(pods), err)
	}
	client, err := c.Server(&pods[0], "")
	if err != nil {
		return err
	}
	var mu sync.Mutex
	refused, readers := 0, sync.WaitGroup{}
	for range 4 {
		readers.Go(func() {
			for ctx.Err() == nil {
				_, _, err := client.Health().Service("anything", "", false, (&api.QueryOptions{}).WithContext(ctx))
				var status api.StatusError
				if errors.As(err, &status) && status.Code == http.StatusTooManyRequests {
					mu.Lock()
					refused++
					mu.Unlock()
				}
			}
		})
	}
	var unready error
	for ctx.Err() == nil && unready == nil {
		p, err := acctest.Kube(t).CoreV1().Pods(namespace).Get(ctx, pods[0].Name, metav1.GetOptions{})
		if err == nil && !consul.PodReady(p) {
			unready = fmt.Errorf("%s is not ready, after %d refused requests", p.Name, refused)
		}
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
		}
	}
	cancel()
	readers.Wait()
	if unready == nil && refused < 10 {
		return fmt.Errorf("the limits refused only %d requests", refused)
	}
	t.Logf("%d requests were refused", refused)
	return unready
}
