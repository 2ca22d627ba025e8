package lifecycle

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// kubernetes is an API server that gives every request the same answer, and records the method, the path, and the UID
// of each.
func kubernetes(t *testing.T, code int32, reason metav1.StatusReason) (l Live, requests *[]string) {
	t.Helper()
	requests = &[]string{}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var eviction policyv1.Eviction
		opts := &metav1.DeleteOptions{}
		if r.Method == http.MethodPost {
			if err := json.Unmarshal(body, &eviction); err != nil {
				t.Error(err)
			}
			opts = eviction.DeleteOptions
		} else if err := json.Unmarshal(body, opts); len(body) > 0 && err != nil {
			t.Error(err)
		}
		text := r.Method + " " + r.URL.Path
		if len(opts.DryRun) > 0 {
			text += " dry run"
		}
		if opts.Preconditions != nil {
			text += " of " + string(*opts.Preconditions.UID)
		}
		*requests = append(*requests, text)
		status := metav1.Status{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Reason: reason, Code: code,
			Details: &metav1.StatusDetails{RetryAfterSeconds: 10},
		}
		if code == http.StatusOK {
			status = metav1.Status{TypeMeta: status.TypeMeta, Status: metav1.StatusSuccess}
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Retry-After", "10")
		w.WriteHeader(int(code))
		_ = json.NewEncoder(w).Encode(status)
	}))
	t.Cleanup(s.Close)
	k, err := kube.NewClient(&rest.Config{Host: s.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}, server.ManagedBy)
	if err != nil {
		t.Fatal(err)
	}
	return Live{Kube: k, Consul: consul.NewConnector(k).Cluster("prod", "consul")}, requests
}

// A server that serves is evicted, which Kubernetes refuses while another one is away. One that does not serve is
// deleted. Both affect the observed pod, and no later one.
func TestRestart_evictsWhatServes(t *testing.T) {
	t.Parallel()
	const evicted, deleted = "POST /api/v1/namespaces/prod/pods/s-1/eviction of uid-1", "DELETE /api/v1/namespaces/prod/pods/s-1 of uid-1"
	tests := map[string]struct {
		server rollout.Server
		code   int32
		reason metav1.StatusReason
		want   string
		ok     func(error) bool
	}{
		"settled": {rollout.Server{}, http.StatusOK, "", evicted, isNil},
		"while another one is away": {
			rollout.Server{},
			http.StatusTooManyRequests,
			metav1.StatusReasonTooManyRequests,
			evicted,
			apierrors.IsTooManyRequests,
		},
		"replaced since":             {rollout.Server{}, http.StatusConflict, metav1.StatusReasonConflict, evicted, apierrors.IsConflict},
		"gone":                       {rollout.Server{}, http.StatusNotFound, metav1.StatusReasonNotFound, evicted, isNil},
		"sick":                       {rollout.Server{Sick: true}, http.StatusOK, "", deleted, isNil},
		"stopped":                    {rollout.Server{Stopped: true}, http.StatusOK, "", deleted, isNil},
		"sick and gone":              {rollout.Server{Sick: true}, http.StatusNotFound, metav1.StatusReasonNotFound, deleted, isNil},
		"without the right to evict": {rollout.Server{}, http.StatusForbidden, metav1.StatusReasonForbidden, evicted, apierrors.IsForbidden},
		"without the right to delete": {
			rollout.Server{Sick: true},
			http.StatusForbidden,
			metav1.StatusReasonForbidden,
			deleted,
			apierrors.IsForbidden,
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, requests := kubernetes(t, tt.code, tt.reason)
			tt.server.Name, tt.server.UID = "s-1", "uid-1"
			if err := l.restart(t.Context(), tt.server); !tt.ok(err) {
				t.Errorf("got %v", err)
			}
			if !slices.Equal(*requests, []string{tt.want}) {
				t.Errorf("asked for %q, want %q", *requests, tt.want)
			}
		})
	}
}

// Servers that stop compare with the number that a change leads to only from the last added server on.
func TestScale_declaresTheNumberBeforeTheLastServerIsAdded(t *testing.T) {
	t.Parallel()
	failed := errors.New("no")
	for name, tt := range map[string]struct {
		replicas, declared, requests int
		err                          error
	}{
		"not the last":               {4, 0, 1, nil},
		"the last":                   {5, 1, 1, nil},
		"more, to bring back peers":  {7, 1, 1, nil},
		"the number is not accepted": {5, 1, 0, failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, requests := kubernetes(t, http.StatusOK, "")
			l.Desired = 5
			declared := 0
			l.Declare = func(context.Context) error {
				if declared++; len(*requests) > 0 {
					t.Errorf("asked for %q before", *requests)
				}
				return tt.err
			}
			if err := l.scale(t.Context(), tt.replicas); !errors.Is(err, tt.err) {
				t.Errorf("got %v", err)
			}
			if declared != tt.declared || len(*requests) != tt.requests {
				t.Errorf("declared the number %d times and asked for %q", declared, *requests)
			}
		})
	}
}

func isNil(err error) bool { return err == nil }

// The volume of a server that may not be evicted is not deleted.
func TestRebuild_keepsTheVolumeIfTheEvictionIsRefused(t *testing.T) {
	t.Parallel()
	l, requests := kubernetes(t, http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests)
	if err := l.rebuild(t.Context(), rollout.Server{Name: "s-1", UID: "uid-1"}); !apierrors.IsTooManyRequests(err) {
		t.Errorf("got %v", err)
	}
	if want := []string{"POST /api/v1/namespaces/prod/pods/s-1/eviction dry run of uid-1"}; !slices.Equal(*requests, want) {
		t.Errorf("asked for %q, want %q", *requests, want)
	}
}

// A pod that is not found does not end a rollout; a StatefulSet that is gone does.
func TestFinal(t *testing.T) {
	t.Parallel()
	status := func(reason metav1.StatusReason) error {
		return fmt.Errorf("a request: %w", &apierrors.StatusError{ErrStatus: metav1.Status{Reason: reason}})
	}
	for name, tt := range map[string]struct {
		err  error
		want bool
	}{
		"no error":                     {nil, false},
		"a pod that is not found":      {status(metav1.StatusReasonNotFound), false},
		"a StatefulSet that is gone":   {fmt.Errorf("reading: %w", server.ErrNoStatefulSet), true},
		"a right that is missing":      {status(metav1.StatusReasonForbidden), true},
		"an object that is not valid":  {status(metav1.StatusReasonInvalid), true},
		"a disruption budget":          {status(metav1.StatusReasonTooManyRequests), false},
		"an API server that is away":   {errors.New("connection refused"), false},
		"another change of the object": {status(metav1.StatusReasonConflict), false},
	} {
		if got := errors.As(final(tt.err), new(*rollout.FinalError)); got != tt.want {
			t.Errorf("%s: final: %v", name, got)
		}
	}
}
