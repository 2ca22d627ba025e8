package localcluster

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// controlPlaneSpecs returns how to run each process of the control plane, in start order. All of them run on the
// host.
func (c *Cluster) controlPlaneSpecs() []spec {
	etcdURL := fmt.Sprintf("http://127.0.0.1:%d", etcdPort)
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", etcdPeerPort)
	pki := func(file string) string { return c.path("pki", file) }
	return []spec{
		{name: "etcd", argv: []string{
			"etcd", "--name=localcluster", "--data-dir=" + c.path("etcd"),
			"--listen-client-urls=" + etcdURL, "--advertise-client-urls=" + etcdURL,
			"--listen-peer-urls=" + peerURL, "--initial-advertise-peer-urls=" + peerURL, "--initial-cluster=localcluster=" + peerURL,
			// Data that a power cut would lose does not matter.
			"--unsafe-no-fsync=true",
		}},
		{name: "kube-apiserver", argv: []string{
			c.path("bin", "kube-apiserver"), "--etcd-servers=" + etcdURL, "--service-cluster-ip-range=" + serviceRange,
			// The bridge is the only address that nodes, pods, and the host share.
			"--bind-address=" + bridgeAddress, "--advertise-address=" + bridgeAddress, fmt.Sprintf("--secure-port=%d", apiPort),
			"--client-ca-file=" + pki("ca.crt"), "--tls-cert-file=" + pki("apiserver.crt"), "--tls-private-key-file=" + pki("apiserver.key"),
			"--service-account-issuer=https://kubernetes.default.svc",
			"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
			"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
			"--kubelet-client-certificate=" + pki("apiserver-kubelet-client.crt"), "--kubelet-client-key=" + pki("apiserver-kubelet-client.key"),
			"--kubelet-certificate-authority=" + pki("ca.crt"), "--kubelet-preferred-address-types=InternalIP",
			// The host does not translate Service addresses, so webhooks are called at the address of a pod.
			"--enable-aggregator-routing=true",
		}},
		// Clients on the machine use the loopback address, for which they never use an HTTP proxy.
		{name: "api-forward", argv: []string{
			"socat", fmt.Sprintf("TCP-LISTEN:%d,bind=127.0.0.1,reuseaddr,fork,backlog=128,nodelay", apiPort),
			fmt.Sprintf("TCP:%s:%d,nodelay", bridgeAddress, apiPort),
		}},
		{name: "kube-controller-manager", argv: []string{
			c.path("bin", "kube-controller-manager"), "--kubeconfig=" + c.path("kube-controller-manager.kubeconfig"),
			"--secure-port=0", "--leader-elect=false", "--use-service-account-credentials=true",
			"--root-ca-file=" + pki("ca.crt"), "--service-account-private-key-file=" + pki("sa.key"),
			"--cluster-signing-cert-file=" + pki("ca.crt"), "--cluster-signing-key-file=" + pki("ca.key"),
			// The pod ranges are in the CNI configuration of the nodes.
			"--allocate-node-cidrs=false", "--cluster-cidr=" + podRange, "--service-cluster-ip-range=" + serviceRange,
			// Tests create and delete many namespaces.
			"--concurrent-namespace-syncs=20", "--kube-api-qps=100", "--kube-api-burst=200",
		}},
		{name: "kube-scheduler", argv: []string{
			c.path("bin", "kube-scheduler"), "--kubeconfig=" + c.path("kube-scheduler.kubeconfig"),
			"--secure-port=0", "--leader-elect=false", "--kube-api-qps=100", "--kube-api-burst=200",
		}},
	}
}

// startControlPlane starts the control plane and returns when the API server is ready.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	for _, s := range c.controlPlaneSpecs() {
		ready := func(context.Context) error { return nil }
		limit := 30 * time.Second
		switch s.name {
		case "etcd":
			ready = func(ctx context.Context) error {
				return answersOK(ctx, fmt.Sprintf("http://127.0.0.1:%d/health", etcdPort))
			}
		case "kube-apiserver":
			// The API server has nearly all processors, but the machine may be slow.
			limit = 2 * time.Minute
			ready = c.apiReadyOnBridge
		case "api-forward":
			ready = func(ctx context.Context) error {
				return acceptsTCP(ctx, fmt.Sprintf("127.0.0.1:%d", apiPort))
			}
		}
		if err := c.startAndWait(ctx, s, limit, ready); err != nil {
			return err
		}
	}
	return nil
}

// apiReadyOnBridge asks the API server itself, without the forwarder on the loopback address.
func (c *Cluster) apiReadyOnBridge(ctx context.Context) error {
	config, err := c.restConfig()
	if err != nil {
		return err
	}
	config.Host = "https://" + net.JoinHostPort(bridgeAddress, strconv.Itoa(apiPort))
	config.Proxy = http.ProxyURL(nil)
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	return client.Discovery().RESTClient().Get().AbsPath("/readyz").Do(ctx).Error()
}

// restConfig is the configuration of a client of the API server with the rights of the administrator.
func (c *Cluster) restConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("reading the cluster's kubeconfig: %w", err)
	}
	config.Timeout = 10 * time.Second
	config.QPS, config.Burst = 100, 200
	return config, nil
}

func (c *Cluster) client() (*kubernetes.Clientset, error) {
	config, err := c.restConfig()
	if err != nil {
		return nil, err
	}
	return kubernetes.NewForConfig(config)
}

func answersOK(ctx context.Context, url string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	// Not the default transport, which would keep connections to a process that is about to be killed.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 2 * time.Second}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	return nil
}

func acceptsTCP(ctx context.Context, address string) error {
	connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return connection.Close()
}
