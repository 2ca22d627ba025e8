// Package consul talks to the servers of a cluster: it reaches them through the Kubernetes API, reads their health and what Raft knows,
// and translates their errors. It does not know about Terraform.
package consul

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// requestTimeout bounds one request to a server, whatever the caller's deadline:
// a pod whose node was cut off must not hold up everything.
const requestTimeout = 30 * time.Second

// Interval between two tries. A server that has just elected a leader, or that does not know the new token yet,
// is ready a moment later.
const Interval = 250 * time.Millisecond

// Connector reaches Consul servers through the Kubernetes API server. It reuses
// its HTTP connections, each of which is a port-forward. It is safe for
// concurrent use.
type Connector struct {
	kube *kube.Client

	mu       sync.Mutex
	forwards map[types.UID]forward // by the UID of the pod
	shared   map[string]any        // by the ID of the cluster, and what it is
}

// NewConnector returns a Connector; it connects to nothing.
func NewConnector(k *kube.Client) *Connector {
	return &Connector{kube: k, forwards: map[types.UID]forward{}, shared: map[string]any{}}
}

// forward is the connection to one pod.
type forward struct {
	cluster   string
	transport *http.Transport
}

// Cluster is the servers of one cluster, as seen through a Connector.
type Cluster struct {
	connector *Connector
	// Kube is the Kubernetes cluster that the servers run in.
	Kube *kube.Client
	// Namespace and Name identify the cluster.
	Namespace string
	Name      string
	// list lists the server pods if the labels of the name do not select them.
	list func(context.Context) ([]corev1.Pod, error)
	// declared returns the labels of every object, nil if the StatefulSet shows them (WithLabels).
	declared func(context.Context) (map[string]string, error)
}

// Cluster returns access to one cluster; it connects to nothing.
func (c *Connector) Cluster(namespace, name string) *Cluster {
	return &Cluster{connector: c, Kube: c.kube, Namespace: namespace, Name: name}
}

// Shared returns what another package keeps about a cluster as long as the Connector is used. It is made once.
func (c *Cluster) Shared(what string, create func() any) any {
	c.connector.mu.Lock()
	defer c.connector.mu.Unlock()
	key := c.ID() + " " + what
	if _, ok := c.connector.shared[key]; !ok {
		c.connector.shared[key] = create()
	}
	return c.connector.shared[key]
}

// ID is "<namespace>/<name>".
func (c *Cluster) ID() string { return c.Namespace + "/" + c.Name }

// Pods lists the server pods by ordinal.
func (c *Cluster) Pods(ctx context.Context) ([]corev1.Pod, error) {
	if c.list != nil {
		return c.list(ctx)
	}
	list, err := c.Kube.CoreV1().Pods(c.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(server.SelectorLabels(c.Name)).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("listing the server pods of %s: %w", c.ID(), err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool {
		_, ok := server.Ordinal(c.Name, p.Name)
		return !ok
	})
	slices.SortFunc(pods, func(a, b corev1.Pod) int {
		x, _ := server.Ordinal(c.Name, a.Name)
		y, _ := server.Ordinal(c.Name, b.Name)
		return cmp.Compare(x, y)
	})
	c.connector.forget(c.ID(), pods)
	return pods, nil
}

// Server returns a client of the agent that runs in a pod. The token may be "".
func (c *Cluster) Server(pod *corev1.Pod, token string) (*api.Client, error) {
	client, err := api.NewClient(&api.Config{
		Address: pod.Name, // the host name is only a label: the dialer knows the pod
		Scheme:  "http",
		HttpClient: &http.Client{
			Timeout:   requestTimeout,
			Transport: identity{token: token, next: c.Kube.Wrap(c.connector.transport(c.ID(), pod))},
		},
		// Any token keeps the library from looking for one in the environment.
		Token: "replaced",
	})
	if err != nil {
		return nil, fmt.Errorf("building the client of server %s: %w", pod.Name, err)
	}
	return client, nil
}

// transport returns the connection to a pod, the same for all requests.
func (c *Connector) transport(cluster string, pod *corev1.Pod) http.RoundTripper {
	c.mu.Lock()
	defer c.mu.Unlock()
	if f, ok := c.forwards[pod.UID]; ok {
		return f.transport
	}
	dialer := c.kube.PodDialer(pod.Namespace, pod.Name)
	f := forward{cluster: cluster, transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.Dial(ctx, server.PortHTTP)
		},
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}}
	c.forwards[pod.UID] = f
	return f.transport
}

// forget closes the connections to pods of a cluster that no longer exist.
func (c *Connector) forget(cluster string, pods []corev1.Pod) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for uid, f := range c.forwards {
		if f.cluster == cluster && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.UID == uid }) {
			f.transport.CloseIdleConnections()
			delete(c.forwards, uid)
		}
	}
}

// identity sends requests with one token, or without a token. The API library takes defaults from CONSUL_*
// environment variables, which are about another Consul: what they add to a request is removed.
type identity struct {
	token string
	next  http.RoundTripper
}

// PathAuthorize answers whether a token has certain rights.
const PathAuthorize = "/v1/internal/acl/authorize"

// RoundTrip implements http.RoundTripper.
func (i identity) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Del("Authorization")
	r.Header.Del("X-Consul-Token")
	if i.token != "" {
		r.Header.Set("X-Consul-Token", i.token)
	}
	if r.URL.Path == PathAuthorize {
		r.Method = http.MethodPost // the library has no way to say so
	}
	q := r.URL.Query()
	q.Del("ns")
	q.Del("partition")
	r.URL.RawQuery = q.Encode()
	return i.next.RoundTrip(r)
}

// ErrNoServer says that no server pod of a cluster is running.
var ErrNoServer = errors.New("no server is running")

// Any calls do with a client of one server after another, ready ones first among the running pods, until it
// succeeds or fails with an error that another server would return as well.
func (c *Cluster) Any(ctx context.Context, token string, do func(*api.Client) error) error {
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	return c.AnyOf(pods, token, do)
}

// AnyOf is Any with the pods as they were listed a moment ago.
func (c *Cluster) AnyOf(pods []corev1.Pod, token string, do func(*api.Client) error) error {
	pods = slices.DeleteFunc(slices.Clone(pods), func(p corev1.Pod) bool { return p.Status.Phase != corev1.PodRunning })
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return cmp.Compare(rank(&a), rank(&b)) })
	err := fmt.Errorf("cluster %s: %w", c.ID(), ErrNoServer)
	for i := range pods {
		client, clientErr := c.Server(&pods[i], token)
		if clientErr != nil {
			return clientErr
		}
		if err = do(client); err == nil || !AnotherMayAnswer(err) {
			return err
		}
		err = fmt.Errorf("server %s: %w", pods[i].Name, err)
	}
	return err
}

func rank(p *corev1.Pod) int {
	if PodReady(p) {
		return 0
	}
	return 1
}

// PodRuns reports whether Consul runs in a pod. A sidecar does not count. If no container has the name that the provider
// gives it, as in servers that another tool made, any container counts.
func PodRuns(p *corev1.Pod) bool {
	named := slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.Name == server.ContainerName }) ||
		slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool { return s.Name == server.ContainerName })
	return slices.ContainsFunc(p.Status.ContainerStatuses, func(s corev1.ContainerStatus) bool {
		return s.State.Running != nil && (s.Name == server.ContainerName || !named)
	})
}

// PodReady reports whether a pod is Ready and not being deleted.
func PodReady(p *corev1.Pod) bool {
	return p.DeletionTimestamp == nil && slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}
