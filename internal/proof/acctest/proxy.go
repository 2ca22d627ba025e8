package acctest

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/rand"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

// KubeProxy is a proxy between the provider and the Kubernetes API server. It counts requests, and delays or breaks
// port-forwards.
type KubeProxy struct {
	// Kubeconfig is the path of a kubeconfig that uses the proxy.
	Kubeconfig string

	latency atomic.Int64 // nanoseconds
	delay   atomic.Int64 // nanoseconds

	mu       sync.Mutex
	requests map[string]int
	tunnels  map[*tunnel]bool
}

// NewKubeProxy starts a proxy in front of the Kubernetes cluster under test. It listens on this machine until the
// test ends.
func NewKubeProxy(t testing.TB) *KubeProxy {
	t.Helper()
	config, err := kube.Config{ConfigPaths: []string{os.Getenv("KUBE_CONFIG_PATH")}}.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	target, _, err := rest.DefaultServerUrlFor(config)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := rest.TransportFor(config)
	if err != nil {
		t.Fatal(err)
	}
	upgrading := rest.CopyConfig(config)
	upgrading.NextProtos = []string{"http/1.1"} // HTTP/2 has no upgrades
	upgradingTransport, err := rest.TransportFor(upgrading)
	if err != nil {
		t.Fatal(err)
	}
	p := &KubeProxy{requests: map[string]int{}, tunnels: map[*tunnel]bool{}}
	token := rand.String(32) // grants the use of the proxy, with the rights of the kubeconfig
	pass := func(transport http.RoundTripper) http.Handler {
		return &httputil.ReverseProxy{
			Transport:     transport,
			FlushInterval: -1,
			Rewrite: func(r *httputil.ProxyRequest) {
				r.SetURL(&url.URL{Scheme: target.Scheme, Host: target.Host})
				r.Out.Header.Del("Authorization")
			},
		}
	}
	plain, upgrade := pass(transport), pass(upgradingTransport)
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		p.mu.Lock()
		p.requests[r.Method+" "+r.URL.Path]++
		p.mu.Unlock()
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Duration(p.delay.Load())):
		}
		if r.Header.Get("Upgrade") != "" {
			upgrade.ServeHTTP(tunnelWriter{w, p}, r)
			return
		}
		plain.ServeHTTP(w, r)
	}))
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(func() {
		p.Cut()
		s.Close()
	})
	p.Kubeconfig = filepath.Join(t.TempDir(), "kubeconfig")
	err = clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters: map[string]*clientcmdapi.Cluster{"proxy": {
			Server: s.URL, CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
		}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{"proxy": {Token: token}},
		Contexts:       map[string]*clientcmdapi.Context{"proxy": {Cluster: "proxy", AuthInfo: "proxy"}},
		CurrentContext: "proxy",
	}, p.Kubeconfig)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Kube returns a client that uses the proxy.
func (p *KubeProxy) Kube(t testing.TB) *kube.Client {
	t.Helper()
	config, err := kube.Config{ConfigPaths: []string{p.Kubeconfig}}.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	k, err := kube.NewClient(config, "acceptance-test")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Requests are the numbers of requests to Kubernetes so far, by method and path. A port-forward counts as one,
// whatever it transfers.
func (p *KubeProxy) Requests() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.requests)
}

// SetLatency makes each round trip through a port-forward longer, by half of the duration in each direction. The
// bandwidth stays the same.
func (p *KubeProxy) SetLatency(d time.Duration) { p.latency.Store(int64(d)) }

// SetDelay makes each request to Kubernetes arrive later, including those that open a port-forward.
func (p *KubeProxy) SetDelay(d time.Duration) { p.delay.Store(int64(d)) }

// Cut breaks all port-forwards, with the data that they are transferring.
func (p *KubeProxy) Cut() {
	p.mu.Lock()
	tunnels := slices.Collect(maps.Keys(p.tunnels))
	p.mu.Unlock()
	for _, t := range tunnels {
		_ = t.Close()
	}
}

// tunnelWriter makes the upgraded connection a tunnel.
type tunnelWriter struct {
	http.ResponseWriter
	proxy *KubeProxy
}

// Unwrap gives http.ResponseController access to the underlying writer.
func (w tunnelWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// tunnel is an upgraded connection on which everything arrives late.
type tunnel struct {
	net.Conn
	proxy  *KubeProxy
	read   chan parcel
	write  chan parcel
	last   parcel // the unread rest of the last one
	closed chan struct{}
	once   sync.Once
}

// parcel is the data of one write.
type parcel struct {
	data []byte
	due  time.Time
	err  error // the error that follows
}

// Hijack implements http.Hijacker.
func (w tunnelWriter) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, buffered, err := http.NewResponseController(w.ResponseWriter).Hijack()
	if err != nil {
		return nil, nil, err
	}
	// Far more than is ever in transit at once.
	t := &tunnel{Conn: conn, proxy: w.proxy, read: make(chan parcel, 4096), write: make(chan parcel, 4096), closed: make(chan struct{})}
	w.proxy.mu.Lock()
	w.proxy.tunnels[t] = true
	w.proxy.mu.Unlock()
	go t.readAll()
	go t.writeAll()
	return t, buffered, nil
}

func (t *tunnel) due() time.Time {
	return time.Now().Add(time.Duration(t.proxy.latency.Load()) / 2)
}

// wait waits until a parcel is due, and returns false if the tunnel is closed before.
func (t *tunnel) wait(p parcel) bool {
	select {
	case <-t.closed:
		return false
	case <-time.After(time.Until(p.due)):
		return true
	}
}

func (t *tunnel) readAll() {
	for {
		buffer := make([]byte, 32<<10)
		n, err := t.Conn.Read(buffer)
		select {
		case t.read <- parcel{data: buffer[:n], due: t.due(), err: err}:
		case <-t.closed:
			return
		}
		if err != nil {
			return
		}
	}
}

func (t *tunnel) writeAll() {
	for {
		select {
		case <-t.closed:
			return
		case p := <-t.write:
			if !t.wait(p) {
				return
			}
			if _, err := t.Conn.Write(p.data); err != nil {
				_ = t.Close()
				return
			}
		}
	}
}

// Read implements net.Conn. Only one goroutine reads.
func (t *tunnel) Read(b []byte) (int, error) {
	if len(t.last.data) == 0 && t.last.err == nil {
		select {
		case <-t.closed:
			return 0, net.ErrClosed
		case t.last = <-t.read:
		}
		if !t.wait(t.last) {
			return 0, net.ErrClosed
		}
	}
	if len(t.last.data) == 0 {
		return 0, t.last.err
	}
	n := copy(b, t.last.data)
	t.last.data = t.last.data[n:]
	return n, nil
}

// Write implements net.Conn.
func (t *tunnel) Write(b []byte) (int, error) {
	select {
	case <-t.closed:
		return 0, net.ErrClosed
	case t.write <- parcel{data: bytes.Clone(b), due: t.due()}:
		return len(b), nil
	}
}

// Close implements net.Conn.
func (t *tunnel) Close() error {
	t.once.Do(func() {
		close(t.closed)
		t.proxy.mu.Lock()
		delete(t.proxy.tunnels, t)
		t.proxy.mu.Unlock()
	})
	return t.Conn.Close()
}
