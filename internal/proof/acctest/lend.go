package acctest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/rand"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// lent has the clusters that the tests of this process use one after the other.
var lent pool

// pool keeps clusters that no test uses now.
type pool struct {
	mu   sync.Mutex
	idle []*lentCluster
}

// lentCluster is a cluster as Bootstrapped starts it, and what it contained when it was new.
type lentCluster struct {
	kube            *kube.Client
	namespace, name string
	token           string
	snapshot        []byte
	contents        []string // of its namespace
}

// Lend gives a test a cluster as Bootstrapped does. No other test uses the cluster until the test ends. Then the
// cluster is restored to its initial state, and the next test gets it: starting a cluster takes longer than most
// tests. The cluster is not reused if the test failed, or if the cluster cannot be restored.
func Lend(t testing.TB) (c *consul.Cluster, token string) {
	t.Helper()
	PreCheck(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	l, err := lent.take(ctx, Kube(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // the context of the test has ended
		defer cancel()
		err := errors.New("the test failed")
		if !t.Failed() {
			err = l.renew(ctx)
		}
		if err == nil {
			lent.put(l)
			return
		}
		t.Logf("no other test gets the cluster %s/%s: %v", l.namespace, l.name, err)
		deleteNamespace(t, l.kube, l.namespace)
	})
	return l.cluster(), l.token
}

// take returns an idle cluster, or a new one.
func (p *pool) take(ctx context.Context, k *kube.Client) (*lentCluster, error) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		l := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		return l, nil
	}
	p.mu.Unlock()
	l := &lentCluster{kube: k, namespace: "lent-" + rand.String(5), name: "consul"}
	if err := l.start(ctx); err != nil {
		return nil, errors.Join(err, removeNamespace(ctx, k, l.namespace))
	}
	return l, nil
}

func (p *pool) put(l *lentCluster) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.idle = append(p.idle, l)
}

// deleteAll deletes the pool when its process ends.
func (p *pool) deleteAll(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, l := range p.idle {
		errs = append(errs, removeNamespace(ctx, l.kube, l.namespace))
	}
	p.idle = nil
	return errors.Join(errs...)
}

// cluster returns access to the cluster, without the cache of another test.
func (l *lentCluster) cluster() *consul.Cluster {
	return consul.NewConnector(l.kube).Cluster(l.namespace, l.name)
}

func (l *lentCluster) start(ctx context.Context) (err error) {
	if err := createNamespace(ctx, l.kube, l.namespace); err != nil {
		return err
	}
	c, token, err := startBootstrapped(ctx, l.kube, l.namespace, ConsulVersion)
	if err != nil {
		return err
	}
	l.token = token
	err = c.Any(ctx, token, func(client *api.Client) error {
		snapshot, _, err := client.Snapshot().Save(nil)
		if err != nil {
			return err
		}
		defer snapshot.Close()
		l.snapshot, err = io.ReadAll(snapshot)
		return err
	})
	if err != nil {
		return err
	}
	l.contents, err = l.kube.NamespaceContents(ctx, l.namespace)
	return err
}

// renew restores a cluster to its initial state. It returns an error if a test created or deleted other objects than
// Secrets, or replaced the management token. A test that changes an object of the cluster itself must not use Lend.
func (l *lentCluster) renew(ctx context.Context) error {
	c := l.cluster()
	if token, _, err := consulacl.ManagementToken(ctx, c); err != nil || token != l.token {
		return errors.Join(errors.New("the management token was replaced"), err)
	}
	err := c.Any(ctx, l.token, func(client *api.Client) error { return client.Snapshot().Restore(nil, bytes.NewReader(l.snapshot)) })
	if err != nil {
		return fmt.Errorf("restoring its contents: %w", err)
	}
	if missing, err := consul.Missing(ctx, c, l.token, 1, 0); err != nil || missing != "" {
		return errors.Join(errors.New("missing: "+missing), err)
	}
	contents, err := l.kube.NamespaceContents(ctx, l.namespace)
	if err != nil {
		return err
	}
	for _, o := range contents {
		secret, isSecret := strings.CutPrefix(o, "secret/")
		if slices.Contains(l.contents, o) || !isSecret {
			continue
		}
		if err := l.kube.CoreV1().Secrets(l.namespace).Delete(ctx, secret, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	contents = slices.DeleteFunc(contents, func(o string) bool { return strings.HasPrefix(o, "secret/") && !slices.Contains(l.contents, o) })
	if !slices.Equal(contents, l.contents) {
		return fmt.Errorf("its namespace has %q instead of %q", contents, l.contents)
	}
	return nil
}
