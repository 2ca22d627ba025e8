package server

import (
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TLS is the encryption of TCP connections: RPC and Raft between agents, and HTTPS.
type TLS struct {
	// Stage is that of RPC. HTTPS is served in all but the first.
	Stage Stage
	TLSSettings
}

// TLSSettings say which certificates the servers get, and whether HTTP remains available.
type TLSSettings struct {
	// HTTPSOnly says that HTTP only answers inside the pods, once the last stage is reached.
	HTTPSOnly bool `json:"https_only,omitempty"`
	// HTTPSPort is the port of the HTTP API over TLS.
	HTTPSPort int `json:"https_port"`
	// VerifyClients says that clients need a certificate for HTTPS, too.
	VerifyClients bool `json:"verify_clients,omitempty"`
	// MinVersion is the oldest version of TLS that is spoken: TLS12 or TLS13.
	MinVersion string `json:"min_version"`
	// CertificateSecret names the Secret with a certificate of the servers that the user provides, with its key
	// and the certificates that vouch for it; "" is a certificate that the provider issues.
	CertificateSecret string `json:"certificate_secret,omitempty"`
	// CASecret names the Secret with a certificate authority that the user provides, in the format of
	// kubernetes.io/tls; "" is an authority that the provider makes.
	CASecret string `json:"ca_secret,omitempty"`
	// KeyAlgorithm is that of all keys that the provider makes (pki.Algorithm).
	KeyAlgorithm string `json:"key_algorithm"`
	// CAValidity is how long a certificate authority that the provider makes is valid.
	CAValidity time.Duration `json:"ca_validity"`
	// CATrigger replaces the certificate authority whenever it changes.
	CATrigger string `json:"ca_trigger,omitempty"`
	// Validity is how long a server certificate is valid, and RenewBefore how long before
	// its end it is replaced.
	Validity    time.Duration `json:"validity"`
	RenewBefore time.Duration `json:"renew_before"`
	// DNSNames and IPAddresses are names of servers in addition to those that are derived from the cluster
	// (CertificateNames).
	DNSNames    []string `json:"dns_names,omitempty"`
	IPAddresses []string `json:"ip_addresses,omitempty"`
}

// DefaultTLS has the default settings.
var DefaultTLS = Default().TLS.TLSSettings

// The versions of TLS, as agents name them. Older ones are broken.
const (
	TLS12 = "TLSv1_2"
	TLS13 = "TLSv1_3"
)

// onlyHTTPS reports whether HTTP only answers inside the pods.
func (t TLS) onlyHTTPS() bool { return t.HTTPSOnly && t.Stage == StageEncrypted }

func (t TLSSettings) httpsPort() int32 { return int32(t.HTTPSPort) } //nolint:gosec // at most 65535

func (t TLSSettings) equal(o TLSSettings) bool { return compactJSON(t) == compactJSON(o) }

const (
	// TLSCAKey is the key, in the Secret of the servers, of the certificate authorities that they trust. All
	// values are PEM. The keys of a Secret with a certificate authority are the same
	// (kubernetes.io/docs/concepts/configuration/secret, and cert-manager).
	TLSCAKey = "ca.crt"
	// TLSCertKey is the key of their certificate, with its chain to one of these authorities.
	TLSCertKey = corev1.TLSCertKey
	// TLSKeyKey is that of its private key.
	TLSKeyKey = corev1.TLSPrivateKeyKey

	tlsVolume = "tls"
	tlsDir    = "/consul/tls"
)

// TLSSecretName is the Secret with the certificate of the servers.
func TLSSecretName(cluster string) string { return cluster + "-tls" }

// CAName is the Secret with the certificate authority and its key, which no pod mounts, and the ConfigMap from
// which clients get the certificates to trust.
func CAName(cluster string) string { return cluster + "-ca" }

// TLSServerName is the name that agents require in the certificate of a server: only servers may have a
// certificate with it (developer.hashicorp.com/consul/docs/reference/agent/configuration-file/tls,
// verify_server_hostname).
func TLSServerName(s Spec) string {
	return "server." + s.Datacenter + "." + strings.TrimSuffix(s.Domain, ".")
}

// clusterDomain is the usual domain of Kubernetes. Another domain has to be in dns_names.
const clusterDomain = "cluster.local"

// CertificateNames are the DNS names and IP addresses of every server's certificate: those with which agents,
// pods, and the servers themselves reach it, and those that are declared.
func CertificateNames(s Spec) (dns, ips []string) {
	dns = []string{TLSServerName(s), "localhost"}
	client, peers := ClientServiceName(s.Name), StatefulSetName(s.Name)
	for _, service := range []string{client, peers, "*." + peers} {
		for _, suffix := range []string{"", "." + s.Namespace, "." + s.Namespace + ".svc", "." + s.Namespace + ".svc." + clusterDomain} {
			dns = append(dns, service+suffix)
		}
	}
	dns, ips = append(dns, s.TLS.DNSNames...), append([]string{"127.0.0.1", "::1"}, s.TLS.IPAddresses...)
	slices.Sort(dns)
	slices.Sort(ips)
	return slices.Compact(dns), slices.Compact(ips)
}

// NeededNames are the DNS names without which a certificate of the servers is of no use: agents check for the
// first one, clients and the provider for the other.
func NeededNames(s Spec) []string {
	return []string{TLSServerName(s), ClientServiceName(s.Name) + "." + s.Namespace + ".svc"}
}

// usesTLS reports whether the servers have certificates.
func (s Spec) usesTLS() bool { return s.TLS.Stage != StagePlain }

// tlsStage is how far an agent's configuration encrypts RPC.
func tlsStage(config map[string]any) Stage {
	if valueAt(config, "tls") == nil {
		return StagePlain
	}
	incoming, _ := valueAt(config, "tls.internal_rpc.verify_incoming").(bool)
	outgoing, _ := valueAt(config, "tls.internal_rpc.verify_outgoing").(bool)
	return StageOf(outgoing, incoming)
}

// restartedTLS is the stage with whose settings a server was started. The step from accepting to sending takes
// a reload: agents check for each new connection whether to encrypt it (Configurator in tlsutil/config.go of
// Consul). The step to refusing plain text takes a restart, which closes the connections that were made before.
func restartedTLS(stage Stage) Stage {
	if stage == StageSend {
		return StageAccept
	}
	return stage
}

// tlsVolumes is the volume with the certificates, and where it is mounted; nothing if there are none.
func tlsVolumes(s Spec) ([]corev1.Volume, []corev1.VolumeMount) {
	if s.TLS.Stage == StagePlain {
		return nil, nil
	}
	return []corev1.Volume{
			{Name: tlsVolume, VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: TLSSecretName(s.Name)}}},
		},
		[]corev1.VolumeMount{
			{Name: tlsVolume, MountPath: tlsDir, ReadOnly: true},
		}
}
