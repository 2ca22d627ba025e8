// Package encryption keeps the gossip keys and the TLS certificates of a cluster in Secrets, replaces them, and lets the servers load them.
package encryption

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/pki"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// The Secret <name>-ca has the certificate authority of a cluster, and the Secret <name>-tls has what the
// servers mount: their certificate, and the authorities that they trust. An authority is replaced in an order
// in which all servers trust each other at any moment, including those that start meanwhile:
//
//  1. the new one is trusted in addition to the old one;
//  2. it signs the servers' certificate, and the old one is still trusted;
//  3. the old one is no longer trusted.
//
// Each step begins after all servers have loaded the result of the one before. After an interruption, the next apply
// resumes from what the Secrets say.
//
// A server may refuse what it gets. If another authority is declared by then, such as the old one again, the replacement
// is reverted before anything is loaded: in step 1, no server has a certificate of the new one, and in step 2, all
// servers trust both, so that a certificate of the old one, which is kept until step 3, is as good as one of the new.
const (
	// ComponentCA is the component label of the Secret and the ConfigMap <name>-ca,
	// ComponentTLS that of the Secret <name>-tls.
	ComponentCA  = "ca"
	ComponentTLS = "tls"

	nextPrefix = "next-"
	formerKey  = "former-" + server.TLSCAKey
	keptPrefix = "kept-"
	// The servers' certificate before the authority was replaced.
	keptServerCert = keptPrefix + "server.crt"
	keptServerKey  = keptPrefix + "server.key"

	annotationBrought  = server.ManagedBy + "/ca-brought"
	annotationUnloaded = server.ManagedBy + "/unloaded"
)

// maxCommonName is the longest common name of a certificate (RFC 5280, ub-common-name-length).
const maxCommonName = 64

// certificateTimeout is how long one server may take to load what the Secret says: a kubelet updates a volume
// within a minute or two.
const certificateTimeout = 3 * time.Minute

// authority is a certificate authority. It can sign only if its key is known.
type authority struct {
	pki.Pair
	// roots are the certificates through which clients trust it: itself, or those that vouch for it.
	roots []*x509.Certificate
	// brought says that the user provides it.
	brought bool
}

// same reports whether two have one certificate, and are trusted through the same ones.
func (a authority) same(b authority) bool {
	return a.Certificate().Equal(b.Certificate()) && !slices.ContainsFunc(a.roots, lacks(b.roots)) &&
		!slices.ContainsFunc(b.roots, lacks(a.roots))
}

// lacks returns a function that reports whether a certificate is missing among all.
func lacks(all []*x509.Certificate) func(*x509.Certificate) bool {
	return func(c *x509.Certificate) bool { return !slices.ContainsFunc(all, c.Equal) }
}

// authorities is what the Secret <name>-ca says.
type authorities struct {
	current authority
	// next is to become current once all servers trust it; nil if no authority is being replaced.
	next *authority
	// former are trusted while a server may have a certificate of theirs.
	former []*x509.Certificate
	// kept is what was current before, until all servers have a certificate of the current authority; nil if there is
	// none.
	kept *kept
	// trigger belongs to the latest one.
	trigger string
}

// kept is an authority, and the last certificate of the servers that it signed.
type kept struct {
	authority
	server pki.Pair
}

// trusted are the certificates that servers and clients trust.
func (a authorities) trusted() []*x509.Certificate {
	all := slices.Clone(a.current.roots)
	if a.next != nil {
		all = append(all, a.next.roots...)
	}
	var out []*x509.Certificate
	for _, c := range append(all, a.former...) {
		if !slices.ContainsFunc(out, c.Equal) {
			out = append(out, c)
		}
	}
	return out
}

// latest is the newest authority, whose certificates all servers are to trust.
func (a authorities) latest() authority {
	if a.next != nil {
		return *a.next
	}
	return a.current
}

// due says why the authority has to be replaced, "" if it does not. brought is the authority that the user
// provides, nil if the provider makes it.
func (a authorities) due(t server.TLSSettings, brought *authority, now time.Time) string {
	latest := a.latest()
	switch {
	case brought != nil && !brought.same(latest):
		return "Secret " + cmp.Or(t.CASecret, t.CertificateSecret) + " has another certificate authority"
	case brought != nil || len(a.former) > 0 || a.next != nil:
		return ""
	case latest.brought:
		return "the provider makes the certificate authority"
	case latest.Key == nil:
		return "the key of the certificate authority is lost"
	case t.CATrigger != "" && a.trigger != "" && t.CATrigger != a.trigger:
		return "the trigger changed"
	case latest.Algorithm() != t.KeyAlgorithm:
		return "the declared key algorithm is " + t.KeyAlgorithm
	case latest.Certificate().NotAfter.Before(now.Add(t.Validity)):
		return "the certificate authority expires on " + day(latest.Certificate().NotAfter)
	}
	return ""
}

// advance returns what the Secret says next, once all servers have loaded what it says now, and false if
// nothing is left to do.
func (a authorities) advance(t server.TLSSettings, cluster string, brought *authority, now time.Time) (authorities, bool, error) {
	switch {
	case a.due(t, brought, now) != "":
		next := brought
		if next == nil {
			made, err := newAuthority(t, cluster, now)
			if err != nil {
				return a, false, err
			}
			next = &made
		}
		a.next, a.trigger = next, t.CATrigger
	case a.next != nil:
		a.former = append(slices.Clone(a.current.roots), a.former...)
		a.kept = &kept{authority: a.current}
		a.current, a.next = *a.next, nil
	case len(a.former) > 0:
		a.former, a.kept = nil, nil
	case a.trigger != t.CATrigger: // only recorded
		a.trigger = t.CATrigger
	default:
		return a, false, nil
	}
	return a, true, nil
}

// reverted is what the Secret says instead of a replacement that is in progress, if another authority than the new one is
// declared by now; false if there is nothing to revert. c is the certificate of the servers, nil if they have none.
func (a authorities) reverted(c *certificate, brought *authority, now time.Time) (authorities, bool) {
	latest := a.latest()
	if (brought == nil && !latest.brought) || (brought != nil && brought.same(latest)) {
		return a, false
	}
	former := append(slices.Clone(a.current.roots), a.former...)
	switch {
	case a.next != nil:
		a.next = nil
	case len(a.former) == 0, c != nil && !c.unloaded && pki.CheckChain(c.Pair, a.current.roots, now) == nil: // all servers have it
		return a, false
	case brought != nil && !slices.ContainsFunc(brought.roots, lacks(a.former)):
		a.current, a.former = *brought, former
	case a.kept != nil && !a.kept.same(a.current):
		a.current, a.former = a.kept.authority, former
	default:
		return a, false
	}
	return a, true
}

func newAuthority(t server.TLSSettings, cluster string, now time.Time) (authority, error) {
	// OpenSSL looks for an authority by its name: no two may have the same.
	const before, between, at = "Consul CA of ", ", ", "2006-01-02 15:04:05"
	name := before + server.Shorten(cluster, maxCommonName-len(before+between+at)) + between + now.UTC().Format(at)
	p, err := pki.NewCA(t.KeyAlgorithm, name, t.CAValidity, now)
	return authority{Pair: p, roots: p.Chain}, err
}

// certificate is what the Secret <name>-tls says.
type certificate struct {
	pki.Pair
	trusted []*x509.Certificate
	// unloaded says that servers may not have loaded it.
	unloaded bool
}

// certificateDue says why a server certificate has to be replaced, "" if it does not.
//
// A certificate that the user provides is due as soon as all servers trust its authority.
func certificateDue(c certificate, a authorities, spec server.Spec, brought *pki.Pair, now time.Time) string {
	leads := func(p pki.Pair) bool { return pki.CheckChain(p, a.current.roots, now) == nil }
	switch {
	case brought != nil && a.current.brought && !brought.Certificate().Equal(c.Certificate()) && leads(*brought):
		return "Secret " + spec.TLS.CertificateSecret + " has another certificate"
	case a.keeps(now) && !leads(c.Pair):
		return "the replacement of the certificate authority is reverted"
	case brought != nil || a.current.Key == nil: // which takes precedence
		return ""
	}
	dns, ips := server.CertificateNames(spec)
	end := c.Certificate().NotAfter
	// Near the end of an authority that the user provides, a new certificate would not be valid longer.
	longer := slices.MinFunc([]time.Time{now.Add(spec.TLS.Validity), a.current.Ends()}, time.Time.Compare).Sub(end) > time.Second
	switch err := pki.CheckServer(c.Pair, a.current.Pair, dns, ips); {
	case err != nil:
		return "the certificate of the servers does not match the configuration: " + err.Error()
	case c.Algorithm() != spec.TLS.KeyAlgorithm:
		return "the declared key algorithm of the servers is " + spec.TLS.KeyAlgorithm
	case !now.Before(end.Add(-spec.TLS.RenewBefore)) && longer:
		return "the certificate of the servers expires on " + day(end)
	}
	return ""
}

// keeps reports whether the kept certificate is the only one that is available of the current authority.
func (a authorities) keeps(now time.Time) bool {
	return a.kept != nil && a.current.Key == nil && pki.CheckChain(a.kept.server, a.current.roots, now) == nil
}

func day(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// EnsureCertificates makes sure that the Secrets and the ConfigMap exist before a server needs them, and
// reports whether it created them. running says that servers run with certificates: others load what the Secret
// says when they start.
func EnsureCertificates(ctx context.Context, c *consul.Cluster, spec server.Spec, running bool) (made bool, err error) {
	w, err := readCertificates(ctx, c, spec)
	if err != nil {
		return false, err
	}
	w.running = running
	made = w.ca == nil && w.tls == nil
	if w.ca == nil {
		a := authorities{trigger: spec.TLS.CATrigger}
		switch {
		case w.certificate != nil: // the servers trust these authorities, whose keys are lost
			a.current = authority{Pair: pki.Pair{Chain: w.certificate.trusted[:1]}, roots: w.certificate.trusted}
		case w.brought != nil:
			a.current = *w.brought
		default:
			if a.current, err = newAuthority(spec.TLS.TLSSettings, c.ID(), time.Now()); err != nil {
				return false, err
			}
		}
		if err := w.writeAuthorities(ctx, a); err != nil {
			return made, err
		}
	}
	if err := w.revert(ctx); err != nil {
		return made, err
	}
	return made, w.publish(ctx)
}

// revert reverts a replacement of the authority if another one is declared by now.
func (w *work) revert(ctx context.Context) error {
	for w.ca != nil {
		back, ok := w.reverted(w.certificate, w.brought, time.Now())
		if !ok {
			return nil
		}
		if err := w.writeAuthorities(ctx, back); err != nil {
			return err
		}
	}
	return nil
}

// SettleCertificates makes all servers load what the Secret says, one after the other, and replaces the
// certificate and the authority if they are due. With ACLs on, it needs agent:write.
func SettleCertificates(ctx context.Context, c *consul.Cluster, token string, spec server.Spec) error {
	w, err := readCertificates(ctx, c, spec)
	if err != nil {
		return err
	}
	for {
		if w.ca == nil {
			return fmt.Errorf("the Secret %s/%s is gone", c.Namespace, server.CAName(c.Name))
		}
		if err := w.revert(ctx); err != nil {
			return err
		}
		if err := w.publish(ctx); err != nil {
			return err
		}
		if w.certificate.unloaded {
			if err := w.load(ctx, token); err != nil {
				return err
			}
		}
		next, ok, err := w.authorities.advance(spec.TLS.TLSSettings, c.ID(), w.brought, time.Now())
		if err != nil || !ok {
			return err
		}
		if next.kept != nil && !w.current.same(next.current) {
			next.kept.server = w.certificate.Pair
		}
		if err := w.checkDropped(next); err != nil {
			return err
		}
		if err := w.writeAuthorities(ctx, next); err != nil {
			return err
		}
	}
}

// checkDropped returns an error if the servers would no longer trust the authority of their own certificate.
func (w *work) checkDropped(next authorities) error {
	if len(next.former) > 0 || len(w.former) == 0 {
		return nil
	}
	if err := pki.CheckChain(w.certificate.Pair, next.trusted(), time.Now()); err != nil {
		return fmt.Errorf(
			"the new certificate authority did not sign the certificate of the servers, so the servers continue to trust the former authority: %w: "+
				"put the new authority back into its Secret, or delete the Secret %s/%s while the servers run, and apply again: the apply then "+
				"replaces the authority",
			err,
			w.c.Namespace,
			server.CAName(w.c.Name),
		)
	}
	return nil
}

// LoadCertificates makes the running servers load what the Secret says, if they may not have. It runs before a
// rollout, which depends on the health of the servers, because they may need the certificates to be healthy.
// SettleCertificates checks whether all servers have loaded them. With ACLs on, it needs agent:write.
func LoadCertificates(ctx context.Context, c *consul.Cluster, token string, spec server.Spec) error {
	w, err := readCertificates(ctx, c, spec)
	if err != nil || w.certificate == nil || !w.certificate.unloaded {
		return err
	}
	pods, err := c.Pods(ctx)
	if err != nil {
		return err
	}
	return w.loadInto(ctx, token, slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !consul.PodRuns(&p) }))
}

// CertificateDrift lists what is wrong with the certificates.
func CertificateDrift(ctx context.Context, c *consul.Cluster, spec server.Spec) (drift []string) {
	w, err := readCertificates(ctx, c, spec)
	switch {
	case err != nil:
		return []string{err.Error()}
	case w.ca == nil, w.certificate == nil:
		return []string{fmt.Sprintf("Secret %s or %s is missing, will be made", server.CAName(c.Name), server.TLSSecretName(c.Name))}
	}
	if _, ok := w.reverted(w.certificate, w.brought, time.Now()); ok {
		return []string{"another certificate authority is declared than the one that was being introduced, will revert"}
	}
	if reason := w.authorities.due(spec.TLS.TLSSettings, w.brought, time.Now()); reason != "" {
		drift = append(drift, reason+", will be replaced")
	}
	if reason := certificateDue(*w.certificate, w.authorities, spec, w.broughtCertificate, time.Now()); reason != "" {
		drift = append(drift, reason+", will be renewed")
	}
	switch {
	case w.next != nil || len(w.former) > 0:
		drift = append(drift, "a replacement of the certificate authority is not complete, will continue")
	case w.certificate.unloaded:
		drift = append(drift, "not all servers have loaded the certificate, will reload")
	case !bytes.Equal(w.tls.Data[server.TLSCAKey], pki.EncodeCertificates(w.trusted())):
		drift = append(drift, fmt.Sprintf("the Secret %s has other certificate authorities, will be written", server.TLSSecretName(c.Name)))
	case !w.published():
		drift = append(drift, fmt.Sprintf("the ConfigMap %s does not have the certificate authority, will be written", server.CAName(c.Name)))
	}
	return drift
}

// Certificates is what clients and people need to know about a cluster's certificates.
type Certificates struct {
	// CA is what to trust, in PEM.
	CA string
	// CAExpires and Expires are the ends of the certificate authority and of the
	// servers' certificate.
	CAExpires, Expires time.Time
}

// ReadCertificates reads them from the Secret of the servers; nil if there are none.
func ReadCertificates(ctx context.Context, c *consul.Cluster) (*Certificates, error) {
	s, err := ownSecret(ctx, c, server.TLSSecretName(c.Name))
	if err != nil || s == nil {
		return nil, err
	}
	read, err := parseCertificate(s)
	if err != nil {
		return nil, err
	}
	ends := Certificates{
		CA:        string(pki.EncodeCertificates(read.trusted)),
		CAExpires: read.trusted[0].NotAfter,
		Expires:   read.Certificate().NotAfter,
	}
	return &ends, nil
}

// DeleteCertificates deletes the Secrets and the ConfigMap. It keeps objects that do not belong to the cluster.
func DeleteCertificates(ctx context.Context, c *consul.Cluster) error {
	errs := []error{DeletePublishedCA(ctx, c)}
	for _, name := range []string{server.TLSSecretName(c.Name), server.CAName(c.Name)} {
		errs = append(errs, deleteOwnSecret(ctx, c, name))
	}
	return errors.Join(errs...)
}

// DeletePublishedCA deletes the ConfigMap. It keeps one that does not belong to the cluster.
func DeletePublishedCA(ctx context.Context, c *consul.Cluster) error {
	name, maps := server.CAName(c.Name), c.Kube.CoreV1().ConfigMaps(c.Namespace)
	cm, err := maps.Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	if err == nil && found && server.Owns(c.Name, cm.Labels) {
		_, err = kube.Found(maps.Delete(ctx, name, metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions(string(cm.UID))}))
	}
	if err != nil {
		return fmt.Errorf("deleting ConfigMap %s/%s: %w", c.Namespace, name, err)
	}
	return nil
}

// ErrNoBrought says that a Secret that the user provides does not exist.
var ErrNoBrought = errors.New("the Secret does not exist")

// ReadError says that a Secret that the user provides was not read, because a right or an answer is missing. It says nothing
// about the contents of the Secret.
type ReadError struct {
	// What was to be read, and Err, why it was not.
	What string
	Err  error
}

// Error implements error.
func (e *ReadError) Error() string { return fmt.Sprintf("reading %s: %s", e.What, e.Err) }

// Unwrap returns why.
func (e *ReadError) Unwrap() error { return e.Err }

// CheckBrought returns an error that says what is wrong with the certificate authority, or the certificate,
// that the user provides: ErrNoBrought if there is no Secret, which may be created meanwhile, and a *ReadError
// if it cannot be read.
func CheckBrought(ctx context.Context, c *consul.Cluster, spec server.Spec) error {
	_, _, err := readBrought(ctx, c, spec)
	return err
}

// readBrought reads what the user provides, nil if that is nothing: the certificate authority, or the certificate
// of the servers with the certificates that vouch for it.
func readBrought(ctx context.Context, c *consul.Cluster, spec server.Spec) (a *authority, p *pki.Pair, err error) {
	name, attribute := spec.TLS.CASecret, "tls.ca_secret"
	if spec.TLS.CertificateSecret != "" {
		name, attribute = spec.TLS.CertificateSecret, "tls.certificate_secret"
	}
	if name == "" {
		return nil, nil, nil
	}
	at := fmt.Sprintf("Secret %s/%s (%s)", c.Namespace, name, attribute)
	s, err := c.Kube.CoreV1().Secrets(c.Namespace).Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return nil, nil, &ReadError{What: at, Err: err}
	}
	if !found {
		return nil, nil, fmt.Errorf("reading %s: %w", at, ErrNoBrought)
	}
	if spec.TLS.CertificateSecret != "" {
		a, p, err = parseBroughtCertificate(s.Data, spec, time.Now())
	} else {
		a, err = parseBroughtCA(s.Data, spec, time.Now())
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", at, err)
	}
	return a, p, nil
}

// parseBroughtCA reads a certificate authority, and checks whether servers with certificates of it would accept each
// other.
func parseBroughtCA(data map[string][]byte, spec server.Spec, now time.Time) (*authority, error) {
	a, err := parseAuthority(data, "")
	if err != nil {
		return nil, err
	}
	a.brought = true
	dns, ips := server.CertificateNames(spec)
	name := server.TLSServerName(spec)
	dns = append([]string{name}, slices.DeleteFunc(dns, func(other string) bool { return other == name })...)
	return &a, pki.CheckCA(a.Pair, a.roots, dns, ips, now)
}

// parseBroughtCertificate reads a certificate of the servers. The authority is the first of the certificates
// that vouch for it.
func parseBroughtCertificate(data map[string][]byte, spec server.Spec, now time.Time) (*authority, *pki.Pair, error) {
	for _, key := range []string{server.TLSCertKey, server.TLSKeyKey, server.TLSCAKey} {
		if len(data[key]) == 0 {
			return nil, nil, fmt.Errorf("the key %s is missing", key)
		}
	}
	p, err := pki.ParsePair(data[server.TLSCertKey], data[server.TLSKeyKey])
	if err != nil {
		return nil, nil, err
	}
	roots, err := pki.ParseCertificates(data[server.TLSCAKey])
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", server.TLSCAKey, err)
	}
	if err := pki.CheckChain(p, roots, now); err != nil {
		return nil, nil, err
	}
	for _, name := range server.NeededNames(spec) {
		if err := p.Certificate().VerifyHostname(name); err != nil {
			return nil, nil, fmt.Errorf("the certificate is not valid for %s", name)
		}
	}
	if err := pki.CheckPeers(p, roots, server.TLSServerName(spec), now); err != nil {
		return nil, nil, fmt.Errorf("servers with this certificate would refuse each other: %w", err)
	}
	return &authority{Pair: pki.Pair{Chain: roots[:1]}, roots: roots, brought: true}, &p, nil
}

// parseAuthority reads the keys of a Secret that start with a prefix.
func parseAuthority(data map[string][]byte, prefix string) (a authority, err error) {
	chain, key := data[prefix+server.TLSCertKey], data[prefix+server.TLSKeyKey]
	switch {
	case len(chain) == 0:
		return a, fmt.Errorf("the key %s is missing", prefix+server.TLSCertKey)
	case len(key) == 0 && prefix == "":
		return a, fmt.Errorf("the key %s is missing", server.TLSKeyKey)
	}
	if a.Pair, err = pki.ParsePair(chain, key); err != nil {
		return a, err
	}
	if a.roots = a.Chain; len(data[prefix+server.TLSCAKey]) > 0 {
		a.roots, err = pki.ParseCertificates(data[prefix+server.TLSCAKey])
	}
	return a, err
}

// work is what the Secrets and the ConfigMap say, and what the user provides.
type work struct {
	c       *consul.Cluster
	spec    server.Spec
	brought *authority
	// broughtCertificate is the certificate of the servers that the user provides, nil if one is issued.
	broughtCertificate *pki.Pair
	running            bool // servers run with certificates

	authorities
	certificate *certificate // nil if the servers have none
	ca, tls     *corev1.Secret
	public      *corev1.ConfigMap
}

func readCertificates(ctx context.Context, c *consul.Cluster, spec server.Spec) (w *work, err error) {
	w = &work{c: c, spec: spec, running: true}
	if w.brought, w.broughtCertificate, err = readBrought(ctx, c, spec); err != nil {
		return nil, err
	}
	if w.ca, err = ownSecret(ctx, c, server.CAName(c.Name)); err != nil {
		return nil, err
	}
	if w.ca != nil {
		if w.authorities, err = parseAuthorities(w.ca, w.brought); err != nil {
			return nil, err
		}
	}
	if w.tls, err = ownSecret(ctx, c, server.TLSSecretName(c.Name)); err != nil {
		return nil, err
	}
	if w.tls != nil {
		if w.certificate, err = parseCertificate(w.tls); err != nil {
			return nil, err
		}
	}
	w.public, err = c.Kube.CoreV1().ConfigMaps(c.Namespace).Get(ctx, server.CAName(c.Name), metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return nil, fmt.Errorf("reading ConfigMap %s/%s: %w", c.Namespace, server.CAName(c.Name), err)
	case !found:
		w.public = nil
	case !server.Owns(c.Name, w.public.Labels):
		return nil, fmt.Errorf(
			"the ConfigMap %s/%s exists, and this provider did not create it for this cluster: rename it, or delete it if nothing uses it",
			c.Namespace,
			w.public.Name,
		)
	}
	return w, nil
}

// parseAuthorities reads the Secret. An authority that the user provides is in it without its key.
func parseAuthorities(s *corev1.Secret, brought *authority) (a authorities, err error) {
	a.trigger = s.Annotations[annotationTrigger]
	read := func(prefix string) (one authority, err error) {
		if _, hasKey := s.Data[prefix+server.TLSKeyKey]; hasKey {
			one, err = parseAuthority(s.Data, prefix)
		} else if one.Chain, err = pki.ParseCertificates(s.Data[prefix+server.TLSCertKey]); err == nil {
			one.roots, err = pki.ParseCertificates(s.Data[prefix+server.TLSCAKey])
			one.brought = s.Annotations[annotationBrought] == "true"
		}
		if err == nil && brought != nil && brought.same(one) {
			one = *brought
		}
		return one, err
	}
	a.current, err = read("")
	if _, hasNext := s.Data[nextPrefix+server.TLSCertKey]; err == nil && hasNext {
		var next authority
		next, err = read(nextPrefix)
		a.next = &next
	}
	if text := s.Data[formerKey]; err == nil && len(text) > 0 {
		a.former, err = pki.ParseCertificates(text)
	}
	if _, hasKept := s.Data[keptServerCert]; err == nil && hasKept {
		a.kept = &kept{}
		if a.kept.authority, err = read(keptPrefix); err == nil {
			a.kept.server, err = pki.ParsePair(s.Data[keptServerCert], s.Data[keptServerKey])
		}
	}
	if err != nil {
		return a, fmt.Errorf(
			"reading Secret %s/%s: %w: delete the Secret while the servers run, and apply again: the apply then replaces the certificate authority",
			s.Namespace,
			s.Name,
			err,
		)
	}
	return a, nil
}

func parseCertificate(s *corev1.Secret) (*certificate, error) {
	c := certificate{unloaded: s.Annotations[annotationUnloaded] == "true"}
	var err error
	if c.Pair, err = pki.ParsePair(s.Data[server.TLSCertKey], s.Data[server.TLSKeyKey]); err == nil {
		c.trusted, err = pki.ParseCertificates(s.Data[server.TLSCAKey])
	}
	if err != nil {
		return nil, fmt.Errorf(
			"reading Secret %s/%s: %w: delete the Secret, and apply again: the apply then creates another one",
			s.Namespace,
			s.Name,
			err,
		)
	}
	return &c, nil
}

// published reports whether the ConfigMap says what to trust.
func (w *work) published() bool {
	return w.public != nil && w.public.Data[server.TLSCAKey] == string(pki.EncodeCertificates(w.trusted()))
}

// publish writes what the authorities say: the ConfigMap for clients, and the Secret of the servers, with
// another certificate if that is due.
func (w *work) publish(ctx context.Context) error {
	trusted := pki.EncodeCertificates(w.trusted())
	meta := metav1.ObjectMeta{Name: server.CAName(w.c.Name), Namespace: w.c.Namespace, Labels: w.spec.Labeled(w.labels(ComponentCA))}
	if !w.published() {
		cm := &corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{server.TLSCAKey: string(trusted)}}
		maps := w.c.Kube.CoreV1().ConfigMaps(w.c.Namespace)
		var err error
		if w.public == nil {
			w.public, err = maps.Create(ctx, cm, metav1.CreateOptions{FieldManager: server.ManagedBy})
		} else {
			patch, _ := json.Marshal(
				map[string]any{"metadata": map[string]any{"resourceVersion": w.public.ResourceVersion}, "data": cm.Data},
			) // strings
			w.public, err = maps.Patch(ctx, cm.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
		}
		if err != nil {
			return fmt.Errorf("writing ConfigMap %s/%s: %w", w.c.Namespace, cm.Name, err)
		}
	}
	now := time.Now()
	issue := w.certificate == nil || certificateDue(*w.certificate, w.authorities, w.spec, w.broughtCertificate, now) != ""
	if !issue && bytes.Equal(w.tls.Data[server.TLSCAKey], trusted) {
		return nil
	}
	data := map[string][]byte{server.TLSCAKey: trusted}
	if issue {
		p, err := w.issue(now)
		if err != nil {
			return err
		}
		if data[server.TLSCertKey], data[server.TLSKeyKey], err = p.PEM(); err != nil {
			return err
		}
	} else {
		data[server.TLSCertKey], data[server.TLSKeyKey] = w.tls.Data[server.TLSCertKey], w.tls.Data[server.TLSKeyKey]
	}
	annotations := map[string]*string{annotationUnloaded: nil}
	if w.running {
		annotations[annotationUnloaded] = new("true")
	}
	s, err := writeSecret(ctx, w.c, w.tls, server.TLSSecretName(w.c.Name), w.labels(ComponentTLS), annotations, data)
	if err != nil {
		return err
	}
	w.tls = s
	w.certificate, err = parseCertificate(s)
	return err
}

// issue returns another certificate of the servers.
func (w *work) issue(now time.Time) (pki.Pair, error) {
	switch {
	case w.broughtCertificate != nil && pki.CheckChain(*w.broughtCertificate, w.current.roots, now) == nil:
		return *w.broughtCertificate, nil
	case w.keeps(now):
		return w.kept.server, nil
	case w.broughtCertificate != nil && pki.CheckChain(*w.broughtCertificate, w.trusted(), now) == nil:
		return *w.broughtCertificate, nil
	case w.current.Key == nil:
		return pki.Pair{}, fmt.Errorf(
			"the Secret %s/%s is lost, and so is the key of the certificate authority that signed what was in it: delete the Secret %s too, and "+
				"apply again: the apply then creates both again",
			w.c.Namespace,
			server.TLSSecretName(w.c.Name),
			server.CAName(w.c.Name),
		)
	}
	dns, ips := server.CertificateNames(w.spec)
	return pki.NewServer(
		w.current.Pair,
		w.spec.TLS.KeyAlgorithm,
		server.Shorten(server.TLSServerName(w.spec), maxCommonName),
		dns,
		ips,
		w.spec.TLS.Validity,
		now,
	)
}

func (w *work) labels(component string) map[string]string {
	l := server.OwnerLabels(w.c.Name)
	l[server.LabelComponent] = component
	return l
}

// writeAuthorities writes the Secret <name>-ca.
func (w *work) writeAuthorities(ctx context.Context, a authorities) error {
	data := map[string][]byte{}
	put := func(prefix string, one authority) (err error) {
		data[prefix+server.TLSCertKey], data[prefix+server.TLSCAKey] = pki.EncodeCertificates(one.Chain), pki.EncodeCertificates(one.roots)
		if one.Key != nil && !one.brought {
			_, data[prefix+server.TLSKeyKey], err = one.PEM()
		}
		return err
	}
	err := put("", a.current)
	if err == nil && a.next != nil {
		err = put(nextPrefix, *a.next)
	}
	if err != nil {
		return err
	}
	if a.kept != nil {
		err = put(keptPrefix, a.kept.authority)
		if err == nil {
			data[keptServerCert], data[keptServerKey], err = a.kept.server.PEM()
		}
		if err != nil {
			return err
		}
	}
	if len(a.former) > 0 {
		data[formerKey] = pki.EncodeCertificates(a.former)
	}
	annotations := map[string]*string{annotationTrigger: nil, annotationBrought: nil}
	if a.trigger != "" {
		annotations[annotationTrigger] = &a.trigger
	}
	if a.current.brought || (a.next != nil && a.next.brought) {
		annotations[annotationBrought] = new("true")
	}
	s, err := writeSecret(ctx, w.c, w.ca, server.CAName(w.c.Name), w.labels(ComponentCA), annotations, data)
	if err != nil {
		return err
	}
	w.ca = s
	w.authorities, err = parseAuthorities(s, w.brought)
	return err
}

// load makes every server load what the Secret says, one after the other, and records it.
func (w *work) load(ctx context.Context, token string) error {
	pods, err := w.c.Pods(ctx)
	if err != nil {
		return err
	}
	if err := w.loadInto(ctx, token, pods); err != nil {
		return err
	}
	s, err := writeSecret(ctx, w.c, w.tls, w.tls.Name, w.tls.Labels, map[string]*string{annotationUnloaded: nil}, w.tls.Data)
	if err != nil {
		return err
	}
	w.tls, w.certificate.unloaded = s, false
	return nil
}

func (w *work) loadInto(ctx context.Context, token string, pods []corev1.Pod) error {
	if err := touchPods(ctx, w.c, w.tls.ResourceVersion); err != nil {
		return err
	}
	for i := range pods {
		reloaded := false
		limited, cancel := context.WithTimeout(ctx, certificateTimeout)
		err := kube.Wait(limited, "the certificates of server "+pods[i].Name, consul.Interval, func(ctx context.Context) (string, error) {
			missing := w.unloaded(ctx, &pods[i])
			if missing == "" && reloaded { // at least once: authorities may have the same name
				return "", nil
			}
			if err := consul.Reload(ctx, w.c, token, &pods[i]); err != nil {
				if consul.IsForbidden(err) {
					return "", err
				}
				return err.Error(), nil
			}
			reloaded = true
			return w.unloaded(ctx, &pods[i]), nil
		})
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

// handshakeTimeout is how long a server may take to accept or refuse a client.
const handshakeTimeout = 5 * time.Second

// alpnRPC is the protocol that a client of the RPC port announces (ALPN_RPCConsul in agent/pool/conn.go of
// Consul). A server answers a client that announces it at once, in TLS, only after both have verified each
// other, even if the server also accepts plain text.
const alpnRPC = "consul/rpc-single"

// ticketTaken is notified when a server sent a session ticket. In TLS 1.3, a client has ended the handshake
// before the server has verified the client, and the ticket is what the server sends next (RFC 8446, section
// 4.6.1).
type ticketTaken chan struct{}

// Get implements tls.ClientSessionCache.
func (ticketTaken) Get(string) (*tls.ClientSessionState, bool) { return nil, false }

// Put implements tls.ClientSessionCache.
func (t ticketTaken) Put(string, *tls.ClientSessionState) {
	select {
	case t <- struct{}{}:
	default:
	}
}

// unloaded says which certificates a server has not loaded, "" if it has loaded all: a handshake shows its
// certificate, that it trusts the latest authority, and which other authorities it trusts.
func (w *work) unloaded(ctx context.Context, pod *corev1.Pod) string {
	client := w.certificate.Pair
	if w.broughtCertificate != nil {
		client = *w.broughtCertificate
	} else if latest := w.latest(); latest.Key != nil {
		var err error
		if client, err = newClient(latest.Pair); err != nil {
			return err.Error()
		}
	}
	shown, trusts, err := w.handshake(ctx, pod, client)
	switch {
	case err != nil:
		return err.Error()
	case !shown.Equal(w.certificate.Certificate()):
		return "its certificate is not the one in the Secret"
	case !sameSubjects(trusts, w.trusted()):
		return "it trusts other certificate authorities than those in the Secret"
	}
	return ""
}

// CheckFormerTLS says why servers that another tool runs and those that a spec describes would refuse each
// other's connections, "" if they would not. Each takes part in a handshake with a certificate of the authority
// that the user provides.
func CheckFormerTLS(ctx context.Context, c *consul.Cluster, spec server.Spec, pods []corev1.Pod) (reason string, err error) {
	w := &work{c: c, spec: spec}
	if w.brought, w.broughtCertificate, err = readBrought(ctx, c, spec); err != nil || w.brought == nil {
		return "", err
	}
	w.current = *w.brought
	var client pki.Pair
	if w.broughtCertificate != nil {
		client = *w.broughtCertificate
	} else if client, err = newClient(w.current.Pair); err != nil {
		return "", err
	}
	for i := range pods {
		if _, _, err := w.handshake(ctx, &pods[i], client); err != nil {
			return fmt.Sprintf(
				"server %s and new servers would refuse each other with the declared certificate authority: %s",
				pods[i].Name,
				err,
			), nil
		}
	}
	return "", nil
}

// newClient issues a certificate with which to connect to a server.
func newClient(ca pki.Pair) (pki.Pair, error) {
	return pki.NewServer(ca, "ECDSA-P256", "terraform-provider-consul-k8s", nil, nil, time.Hour, time.Now())
}

// handshake connects to the RPC port of a server, and returns the certificate that the server shows and the
// subjects of the authorities that it trusts. It returns an error if one side does not trust the other.
func (w *work) handshake(ctx context.Context, pod *corev1.Pod, client pki.Pair) (shown *x509.Certificate, trusts [][]byte, err error) {
	chain := make([][]byte, len(client.Chain))
	for i, c := range client.Chain {
		chain[i] = c.Raw
	}
	conn, err := w.c.Kube.PodDialer(pod.Namespace, pod.Name).Dial(ctx, server.PortServer)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = conn.Close() }()
	accepted := make(ticketTaken, 1)
	tlsConn := tls.Client(conn, &tls.Config{
		MinVersion: tls.VersionTLS13, RootCAs: pki.Pool(w.trusted()), ServerName: server.TLSServerName(w.spec),
		GetClientCertificate: func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
			trusts = info.AcceptableCAs
			return &tls.Certificate{Certificate: chain, PrivateKey: client.Key}, nil
		},
		NextProtos: []string{alpnRPC}, ClientSessionCache: accepted,
	})
	if err := tlsConn.HandshakeContext(ctx); err != nil {
		return nil, nil, fmt.Errorf("it does not accept a connection: %w", err)
	}
	refused := make(chan error, 1)
	go func() { // until the connection is closed
		_, err := tlsConn.Read(make([]byte, 1))
		refused <- err
	}()
	select {
	case <-accepted:
	case err := <-refused:
		return nil, nil, fmt.Errorf("it does not accept a connection: %w", err)
	case <-time.After(handshakeTimeout):
		return nil, nil, errors.New("it does not confirm that it accepts a connection")
	}
	return tlsConn.ConnectionState().PeerCertificates[0], trusts, nil
}

// sameSubjects reports whether these are the subjects of the certificates, in any order.
func sameSubjects(subjects [][]byte, certificates []*x509.Certificate) bool {
	want := map[string]bool{}
	for _, c := range certificates {
		want[string(c.RawSubject)] = true
	}
	got := map[string]bool{}
	for _, s := range subjects {
		got[string(s)] = true
	}
	return maps.Equal(got, want)
}
