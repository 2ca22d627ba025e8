package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// RefusedError says why servers cannot be adopted. Nothing was changed.
type RefusedError struct {
	// From is the StatefulSet of the former servers.
	From    string
	Reasons []string
}

// Error implements error.
func (e *RefusedError) Error() string {
	return "cannot adopt the servers of the StatefulSet " + e.From + ": " + strings.Join(e.Reasons, "; ")
}

// CheckAdopt checks whether the cluster that a spec describes can adopt the servers of spec.Adopt,
// and changes nothing. It returns the number of these servers, or a *RefusedError with all reasons
// why not. An adoption that is in progress is not refused.
func (d Deployment) CheckAdopt(ctx context.Context, spec server.Spec) (servers int, err error) {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return 0, err
	}
	if live.StatefulSet != nil { // in progress, or another cluster: the create reports it
		sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, spec.Adopt.StatefulSet)
		if err != nil || sts == nil {
			return 0, err
		}
		return int(replicasOf(sts)), nil
	}
	f, err := adoption{d}.checkFormer(ctx, spec, live)
	return int(f.takeover.Replicas), err
}

// checkFormer is CheckAdopt for a cluster of which nothing exists.
func (d adoption) checkFormer(ctx context.Context, spec server.Spec, live server.Set) (former, error) {
	adopt := spec.Adopt
	refused := &RefusedError{From: spec.Namespace + "/" + adopt.StatefulSet}
	refuse := func(format string, args ...any) {
		refused.Reasons = append(refused.Reasons, fmt.Sprintf(format, args...))
	}
	if err := foreign(withoutClaimable(live, spec), spec.Name); err != nil {
		return former{}, err
	}
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, adopt.StatefulSet)
	if err != nil {
		return former{}, err
	}
	if sts == nil {
		refuse("the StatefulSet does not exist")
		return former{}, refused
	}
	if sts.Labels[server.LabelManagedBy] == server.ManagedBy {
		refuse("the StatefulSet belongs to the cluster %s of this provider: import that cluster instead", sts.Labels[server.LabelInstance])
		return former{}, refused
	}
	for _, name := range adopt.Services {
		reason, err := d.checkService(ctx, spec, sts, name)
		if err != nil {
			return former{}, err
		}
		if reason != "" {
			refuse("Service %s: %s", name, reason)
		}
	}
	claims, err := volumes(d).claimsOf(ctx, server.ClaimPrefix(spec.Name))
	if err != nil {
		return former{}, err
	}
	if len(claims) > 0 {
		refuse(
			"the volume claims %s hold the data of an earlier cluster %s, and new servers of that name would start with it: delete the claims, "+
				"or choose another name",
			strings.Join(claims, ", "),
			spec.Name,
		)
	}
	f := former{takeover: server.Takeover{Replicas: replicasOf(sts)}}
	if ref := adopt.TokenSecret; ref != nil {
		f.token, err = consulacl.SecretToken(ctx, d.Consul, consulacl.SecretRef{Name: ref.Name, Key: ref.Key})
		switch {
		case apierrors.IsNotFound(err):
			refuse("the Secret %s of token_secret does not exist", ref.Name)
			return former{}, refused
		case err != nil:
			return former{}, err
		case f.token == "":
			refuse("the Secret %s of token_secret has no value in its key %q", ref.Name, ref.Key)
			return former{}, refused
		}
	}
	reasons, join, err := d.checkServers(ctx, spec, sts, f.token)
	if err != nil {
		return former{}, err
	}
	refused.Reasons = append(refused.Reasons, reasons...)
	if len(refused.Reasons) > 0 {
		return former{}, refused
	}
	f.takeover.Join = join
	return f, nil
}

// wellTimeout is how long a check waits for the former servers to be healthy: a busy server may
// count as unhealthy for a moment.
const wellTimeout = 10 * time.Second

// checkServers asks the former servers themselves, and returns their gossip addresses.
func (d adoption) checkServers(
	ctx context.Context,
	spec server.Spec,
	sts *appsv1.StatefulSet,
	token string,
) (reasons, join []string, err error) {
	servers := d.Consul.Former(sts.Name)
	pods, err := servers.Pods(ctx)
	if err != nil {
		return nil, nil, err
	}
	if len(pods) == 0 {
		return []string{"the StatefulSet has no pods: its servers must be running"}, nil, nil
	}
	var facts []consul.AgentFacts
	for i := range pods {
		if pods[i].Status.Phase != corev1.PodRunning {
			return []string{fmt.Sprintf("server %s is not running", pods[i].Name)}, nil, nil
		}
		f, err := consul.Facts(ctx, servers, token, &pods[i])
		switch {
		case consul.IsForbidden(err) && token == "":
			return []string{"ACLs are on: set token_secret to a Secret with a management token"}, nil, nil
		case consul.IsForbidden(err):
			return []string{fmt.Sprintf("Consul does not accept the token of token_secret: %s", err)}, nil, nil
		case err != nil:
			return []string{fmt.Sprintf("the HTTP API of the servers on port %d does not answer without TLS: %s", server.PortHTTP, err)}, nil, nil
		}
		facts = append(facts, f)
	}
	if reasons = refusals(spec, facts); len(reasons) > 0 {
		return reasons, nil, nil
	}
	if token != "" {
		_, err := consulacl.VerifyToken(ctx, servers, token)
		switch {
		case errors.Is(err, consulacl.ErrSecretLost):
			return []string{fmt.Sprintf("token_secret: %s", err)}, nil, nil
		case err != nil:
			return nil, nil, err
		}
	}
	if spec.TLS.Stage != server.StagePlain {
		switch reason, err := encryption.CheckFormerTLS(ctx, d.Consul, spec, pods); {
		case errors.Is(err, encryption.ErrNoBrought):
			return []string{err.Error()}, nil, nil
		case err != nil:
			return nil, nil, err
		case reason != "":
			return []string{reason}, nil, nil
		}
	}
	well, cancel := context.WithTimeout(ctx, wellTimeout)
	defer cancel()
	err = kube.Wait(well, "the former servers", interval, func(ctx context.Context) (string, error) {
		return consul.Missing(ctx, servers, token, int(replicasOf(sts)), 0)
	})
	var timeout *kube.TimeoutError
	switch {
	case errors.As(err, &timeout) && ctx.Err() == nil:
		return []string{"the servers of the StatefulSet are not all healthy voters, or not the only servers: " + timeout.Missing}, nil, nil
	case err != nil:
		return nil, nil, err
	}
	port := server.PortSerfLAN
	if p := facts[0].SerfPort; p > 0 {
		port = p
	}
	join, err = d.joinAddresses(ctx, sts, pods, strconv.Itoa(port))
	return nil, join, err
}

// refusals says why servers with these facts cannot be adopted.
func refusals(spec server.Spec, facts []consul.AgentFacts) []string {
	var reasons []string
	refuse := func(format string, args ...any) {
		// A reason that applies to all servers is given once.
		if r := fmt.Sprintf(format, args...); !slices.Contains(reasons, r) {
			reasons = append(reasons, r)
		}
	}
	for _, f := range facts {
		if f.Node != f.Pod {
			refuse("server %s has the node name %s in Consul: the node name must be the name of the pod", f.Pod, f.Node)
		}
		if err := server.CheckAdoptVersion(f.Version, spec.Version); err != nil {
			refuse("%s", err)
		}
		if f.Datacenter != spec.Datacenter {
			refuse("the datacenter of the servers is %q: declare datacenter = %q", f.Datacenter, f.Datacenter)
		}
		if f.Domain != "" && f.Domain != spec.Domain {
			refuse("the DNS domain of the servers is %q: declare domain = %q", f.Domain, f.Domain)
		}
		switch on := spec.Gossip.Stage != server.StagePlain; {
		case f.Encrypted && !on:
			refuse("the servers encrypt gossip: declare gossip = { enabled = true }, and the cluster keeps their gossip keys")
		case !f.Encrypted && on:
			refuse("the servers do not encrypt gossip: adopt them without gossip.enabled, and turn it on with the next apply")
		}
		switch on := spec.TLS.Stage != server.StagePlain; {
		case f.VerifiesIncoming != f.VerifiesOutgoing:
			refuse("the servers set only one of verify_incoming and verify_outgoing for RPC: set both, or neither")
		case f.VerifiesIncoming && !on:
			refuse(
				"the servers use TLS between each other: declare tls = { enabled = true }, with the certificate authority of their certificates in " +
					"ca_secret",
			)
		case f.VerifiesIncoming && spec.TLS.CASecret == "" && spec.TLS.CertificateSecret == "":
			refuse(
				"the servers use TLS between each other: name the certificate authority of their certificates in tls.ca_secret, or a certificate " +
					"that it signed in tls.certificate_secret; a later apply can replace the authority",
			)
		case !f.VerifiesIncoming && on:
			refuse("the servers do not use TLS between each other: adopt them without tls.enabled, and turn it on with the next apply")
		}
		if f.Local {
			refuse(
				"the HTTP API of the servers listens only on the loopback address (client_addr): new servers must be able to ask it for the Raft peers",
			)
		}
		switch {
		case f.ACLs != spec.ACL.Enabled:
			refuse("the ACLs of the servers are %s: declare acl = { enabled = %t }", onOff(f.ACLs), f.ACLs)
		case f.ACLs && f.DefaultPolicy != spec.ACL.DefaultPolicy:
			refuse(
				"the default policy of the servers is %q: declare acl = { enabled = true, default_policy = %q }",
				f.DefaultPolicy,
				f.DefaultPolicy,
			)
		case f.ACLs && spec.Adopt.TokenSecret == nil:
			refuse("ACLs are on: set token_secret to a Secret with a management token")
		case !f.ACLs && spec.Adopt.TokenSecret != nil:
			refuse("the ACLs of the servers are off: remove token_secret")
		}
	}
	return reasons
}

func onOff(on bool) string {
	if on {
		return "on"
	}
	return "off"
}

// checkService says why a Service cannot be switched, "" if it can.
func (d adoption) checkService(ctx context.Context, spec server.Spec, sts *appsv1.StatefulSet, name string) (reason string, err error) {
	svc, err := d.Kube.CoreV1().Services(spec.Namespace).Get(ctx, name, metav1.GetOptions{})
	found, err := kube.Found(err)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading Service %s/%s: %w", spec.Namespace, name, err)
	case !found:
		return "it does not exist", nil
	case len(svc.Spec.Selector) == 0:
		return "it has no selector", nil
	}
	for k, v := range svc.Spec.Selector {
		if sts.Spec.Template.Labels[k] != v {
			return fmt.Sprintf("it does not select the servers, which do not have the label %s=%s", k, v), nil
		}
	}
	if name != server.ClientServiceName(spec.Name) {
		return "", nil
	}
	if err := server.CheckClientService(spec, svc); err != nil {
		return fmt.Sprintf(
			"it cannot become the client Service of the cluster: %s. Or choose another name for the cluster: the Service then stays beside the "+
				"client Service",
			err,
		), nil
	}
	return "", nil
}

// joinAddresses are the addresses at which new servers find the former ones: their IPs, and the DNS
// name of their governing Service if it is headless.
func (d adoption) joinAddresses(ctx context.Context, sts *appsv1.StatefulSet, pods []corev1.Pod, port string) ([]string, error) {
	var join []string
	svc, err := d.Kube.CoreV1().Services(sts.Namespace).Get(ctx, sts.Spec.ServiceName, metav1.GetOptions{})
	found, err := kube.Found(err)
	if err != nil {
		return nil, fmt.Errorf("reading Service %s/%s: %w", sts.Namespace, sts.Spec.ServiceName, err)
	}
	if found && svc.Spec.ClusterIP == corev1.ClusterIPNone {
		join = append(join, net.JoinHostPort(fmt.Sprintf("%s.%s.svc", svc.Name, svc.Namespace), port))
	}
	for i := range pods {
		if ip := pods[i].Status.PodIP; ip != "" {
			join = append(join, net.JoinHostPort(ip, port))
		}
	}
	return join, nil
}

// rejoin is a Takeover with the current addresses of the former servers.
func (d adoption) rejoin(ctx context.Context, before server.Takeover, statefulSet string) (server.Takeover, error) {
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, statefulSet)
	if err != nil || sts == nil || len(before.Join) == 0 {
		return before, err
	}
	pods, err := d.Consul.Former(sts.Name).Pods(ctx)
	if err != nil || len(pods) == 0 {
		return before, err
	}
	_, port, err := net.SplitHostPort(before.Join[0])
	if err != nil {
		return before, fmt.Errorf("parsing the address %q of a former server: %w", before.Join[0], err)
	}
	join, err := d.joinAddresses(ctx, sts, pods, port)
	return server.Takeover{Replicas: before.Replicas, Join: join}, err
}
