package kube_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// A handshake that hangs, as through a broken proxy, delays its caller only until the context ends, and no other
// caller.
func TestPodDialer_hangingHandshakeDelaysNoOther(t *testing.T) {
	release := make(chan struct{})
	var requests atomic.Int32
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if requests.Add(1) == 1 {
			<-release
		}
		w.WriteHeader(http.StatusForbidden)
	}))
	defer api.Close()
	defer close(release)
	k, err := kube.NewClient(&rest.Config{Host: api.URL}, "test")
	if err != nil {
		t.Fatal(err)
	}
	dialer := k.PodDialer("ns", "pod")

	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := dialer.Dial(ctx, 1); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the first Dial returned %v, not the error of its context", err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := dialer.Dial(ctx, 1); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("the second Dial waited for the first: %v", err)
	}
}
