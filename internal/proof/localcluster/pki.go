package localcluster

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"strconv"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// certificateLife is longer than the life of any disposable cluster.
const certificateLife = 10 * 365 * 24 * time.Hour

// authority is the certificate authority of one cluster. Its keys are elliptic: they are as safe here as RSA keys,
// and faster to create.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// identity is a certificate with its key, PEM encoded.
type identity struct {
	certificate, key []byte
}

func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localcluster"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &authority{certificate: certificate, key: key}, nil
}

// issue creates a certificate for both clients and servers. To Kubernetes, the common name is the user, and the
// organizations are the groups.
func (a *authority) issue(commonName string, organizations, names []string, addresses ...string) (identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return identity{}, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return identity{}, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: commonName, Organization: organizations},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(certificateLife),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		DNSNames:    names,
	}
	for _, s := range addresses {
		template.IPAddresses = append(template.IPAddresses, net.ParseIP(s))
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	if err != nil {
		return identity{}, err
	}
	keyPEM, err := encodeKey(key)
	return identity{certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), key: keyPEM}, err
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), nil
}

func (a *authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// kubeconfig returns a kubeconfig for a user that contains all data.
func (a *authority) kubeconfig(server string, id identity) ([]byte, error) {
	const name = "localcluster"
	config := clientcmdapi.NewConfig()
	config.Clusters[name] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: a.pem()}
	config.AuthInfos[name] = &clientcmdapi.AuthInfo{ClientCertificateData: id.certificate, ClientKeyData: id.key}
	config.Contexts[name] = &clientcmdapi.Context{Cluster: name, AuthInfo: name}
	config.CurrentContext = name
	return clientcmd.Write(*config)
}

// writePKI creates the authority of the cluster, all certificates, and a kubeconfig for every client of the API
// server.
func (c *Cluster) writePKI() error {
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("making the certificate authority: %w", err)
	}
	files := map[string][]byte{"pki/ca.crt": ca.pem()}
	if files["pki/ca.key"], err = encodeKey(ca.key); err != nil {
		return fmt.Errorf("encoding the key of the certificate authority: %w", err)
	}
	serviceAccount, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("making the key of the service accounts: %w", err)
	}
	if files["pki/sa.key"], err = encodeKey(serviceAccount); err != nil {
		return fmt.Errorf("encoding the key of the service accounts: %w", err)
	}
	public, err := x509.MarshalPKIXPublicKey(serviceAccount.Public())
	if err != nil {
		return fmt.Errorf("encoding the key of the service accounts: %w", err)
	}
	files["pki/sa.pub"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})

	onMachine := fmt.Sprintf("https://127.0.0.1:%d", apiPort)
	onBridge := "https://" + net.JoinHostPort(bridgeAddress, strconv.Itoa(apiPort))
	type issue struct {
		file, commonName string
		organizations    []string
		names, addresses []string
		server           string
	}
	issues := []issue{
		{file: "pki/apiserver", commonName: "kube-apiserver",
			names:     []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			addresses: []string{"127.0.0.1", bridgeAddress, apiServiceAddress}},
		{file: "pki/apiserver-kubelet-client", commonName: "kube-apiserver-kubelet-client", organizations: []string{"system:masters"}},
		{file: "admin", commonName: "admin", organizations: []string{"system:masters"}, server: onMachine},
		{file: "kube-controller-manager", commonName: "system:kube-controller-manager", server: onBridge},
		{file: "kube-scheduler", commonName: "system:kube-scheduler", server: onBridge},
		{file: "kube-proxy", commonName: "system:kube-proxy", server: onBridge},
	}
	for _, n := range nodes() {
		issues = append(issues, issue{
			file: n.name + "/kubelet", commonName: "system:node:" + n.name, organizations: []string{"system:nodes"},
			names: []string{n.name}, addresses: []string{n.address()}, server: onBridge,
		})
	}
	for _, i := range issues {
		id, err := ca.issue(i.commonName, i.organizations, i.names, i.addresses...)
		if err != nil {
			return fmt.Errorf("making the certificate of %s: %w", i.commonName, err)
		}
		files[i.file+".crt"], files[i.file+".key"] = id.certificate, id.key
		if i.server == "" {
			continue
		}
		if files[i.file+".kubeconfig"], err = ca.kubeconfig(i.server, id); err != nil {
			return fmt.Errorf("making the kubeconfig of %s: %w", i.commonName, err)
		}
	}
	for name, data := range files {
		if err := writeFile(c.path(name), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// WriteKubeconfig writes a copy of the kubeconfig of the administrator, which contains its certificates, to path,
// atomically.
func (c *Cluster) WriteKubeconfig(path string) error {
	data, err := os.ReadFile(c.Kubeconfig())
	if err != nil {
		return fmt.Errorf("reading the cluster's kubeconfig: %w", err)
	}
	return writeFile(path, data, 0o600)
}
