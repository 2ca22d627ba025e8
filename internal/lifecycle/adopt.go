package lifecycle

import (
	"cmp"
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
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/encryption"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/rollout"
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

// Leftover is what an adoption leaves behind. Nothing uses it anymore.
type Leftover struct {
	// StatefulSet of the former servers, scaled to 0.
	StatefulSet string
	// Claims are the volume claims of the former servers.
	Claims []string
	// HelmRelease is the release that created the StatefulSet, "" if Helm did not create it.
	HelmRelease string
	// Unserved are the ports of switched Services, "<service>: <port>", behind which no
	// server listens.
	Unserved []string
}

// former is what was found of the servers to adopt.
type former struct {
	takeover server.Takeover
	// token is the management token, "" where ACLs are off.
	token string
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
	f, err := adoption{d}.checkAdopt(ctx, spec, live)
	return int(f.takeover.Replicas), err
}

// checkAdopt is CheckAdopt for a cluster of which nothing exists.
func (d adoption) checkAdopt(ctx context.Context, spec server.Spec, live server.Set) (former, error) {
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

func replicasOf(sts *appsv1.StatefulSet) int32 {
	if sts.Spec.Replicas == nil {
		return 1 // as Kubernetes fills in
	}
	return *sts.Spec.Replicas
}

// claimsOf lists the volume claims whose names are one of the prefixes followed by an ordinal.
func (d volumes) claimsOf(ctx context.Context, prefixes ...string) ([]string, error) {
	list, err := d.Kube.CoreV1().PersistentVolumeClaims(d.Consul.Namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("listing the volume claims in %s: %w", d.Consul.Namespace, err)
	}
	var claims []string
	for i := range list.Items {
		for _, p := range prefixes {
			ordinal, ok := strings.CutPrefix(list.Items[i].Name, p)
			if _, err := strconv.Atoi(ordinal); ok && err == nil {
				claims = append(claims, list.Items[i].Name)
			}
		}
	}
	slices.Sort(claims)
	return claims, nil
}

// withoutClaimable removes the Service of the former servers that becomes the client Service of the
// cluster when Services are switched. Before that, it is not touched.
func withoutClaimable(live server.Set, spec server.Spec) server.Set {
	if isClaimable(live, spec) {
		live.ClientService = nil
	}
	return live
}

func isClaimable(live server.Set, spec server.Spec) bool {
	svc := live.ClientService
	return svc != nil && spec.Adopt != nil && !server.Owns(spec.Name, svc.Labels) && slices.Contains(spec.Adopt.Services, svc.Name)
}

// apply applies the objects of an adoption.
func (d adoption) apply(ctx context.Context, spec server.Spec, live server.Set) (accepted []server.Object, err error) {
	set := server.Objects(spec)
	if isClaimable(live, spec) {
		set.ClientService = nil
	}
	return applyObjects(ctx, d.Kube, set, live)
}

// start makes a cluster out of servers that another tool made, or resumes that. Like Create, it
// returns an error other than an *UnsettledError only if there is no cluster.
func (d adoption) start(ctx context.Context, spec server.Spec, live server.Set) error {
	if live.IsTakeover() {
		if live.StatefulSet.Annotations[server.AnnotationCreating] != "true" {
			return ErrExists
		}
		return d.begun(ctx, spec, func(ctx context.Context) error { return d.resume(ctx, spec) })
	}
	f, err := d.checkAdopt(ctx, spec, live)
	if err != nil {
		return err
	}
	if err := configCheck(d).checkConfig(ctx, server.Spec{}, spec, live); err != nil {
		return err
	}
	desired := int(spec.Replicas)
	// No server may bootstrap a second cluster: there is one.
	spec.Creating, spec.Established, spec.Replicas, spec.Takeover = true, true, 0, &f.takeover
	made, err := d.keepSecrets(ctx, spec, f)
	if err == nil {
		made.objects, err = d.apply(ctx, spec, live)
	}
	if err != nil {
		return errors.Join(err, made.undo(ctx, portsOf(d.Deployment).objects, live))
	}
	return d.begun(ctx, spec, func(ctx context.Context) error { return d.run(ctx, spec, desired) })
}

// keepSecrets makes sure that the new servers find the management token and the gossip keys of the
// former servers, and certificates of their authority.
func (d adoption) keepSecrets(ctx context.Context, spec server.Spec, f former) (m made, err error) {
	if f.token != "" {
		isNew, err := consulacl.KeepManagementToken(ctx, d.Consul, f.token)
		if err != nil {
			return m, err
		}
		if isNew {
			m.secrets = append(m.secrets, func(ctx context.Context) error { return consulacl.ForgetManagementToken(ctx, d.Consul) })
		}
	}
	if spec.Gossip.Stage != server.StagePlain {
		isNew, err := encryption.KeepKeyring(ctx, d.Consul, f.token, spec.Gossip, d.Consul.Former(spec.Adopt.StatefulSet))
		if err != nil {
			return m, err
		}
		if isNew {
			m.secrets = append(m.secrets, func(ctx context.Context) error { return encryption.DeleteKeyring(ctx, d.Consul) })
		}
	}
	if err := m.secret(credentials(d).ensureKeys(ctx, server.Spec{}, spec)); err != nil {
		return m, err
	}
	return m, m.secret(credentials(d).ensureCertificates(ctx, server.Spec{}, spec))
}

// begun calls do for a cluster that exists, while no other apply changes the cluster. If the time
// ran out, the cluster is unsettled.
func (d adoption) begun(ctx context.Context, spec server.Spec, do func(context.Context) error) error {
	err := lease(d).exclusively(ctx, do)
	var unsettled *UnsettledError
	if err != nil && ctx.Err() != nil && !errors.As(err, &unsettled) {
		return d.unsettled(ctx, err, spec)
	}
	return err
}

// resume resumes an adoption from the live objects, with a spec that may have changed since
// the adoption began.
func (d adoption) resume(ctx context.Context, spec server.Spec) error {
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return err
	}
	before, err := server.Parse(live, spec)
	if err != nil {
		return err
	}
	if !server.SameStages(before, spec) {
		return fmt.Errorf(
			"the adoption of servers by %s is not complete: keep the former values of gossip.enabled and tls.enabled until it is",
			spec.ID(),
		)
	}
	if err := configCheck(d).checkConfig(ctx, before, spec, live); err != nil {
		return err
	}
	if before.Adopt == nil || before.Takeover == nil {
		return fmt.Errorf(
			"the annotations of the StatefulSet %s/%s do not name the servers that the cluster adopts",
			spec.Namespace,
			server.StatefulSetName(spec.Name),
		)
	}
	if spec.Adopt == nil {
		spec.Adopt = before.Adopt
	}
	if spec.Adopt.StatefulSet != before.Adopt.StatefulSet {
		return fmt.Errorf("the adoption of the servers of the StatefulSet %s is not complete: keep adopt.stateful_set", before.Adopt.StatefulSet)
	}
	if err := foreign(withoutClaimable(live, spec), spec.Name); err != nil {
		return err
	}
	desired := int(spec.Replicas)
	spec.Replicas, spec.Creating, spec.Established = before.Replicas, before.Creating, true
	if spec.Takeover, err = d.rejoin(ctx, *before.Takeover, spec.Adopt.StatefulSet); err != nil {
		return err
	}
	if spec.FormerConfig, err = objects(d).formerConfig(ctx, spec, live); err != nil {
		return err
	}
	if _, err := credentials(d).ensureKeys(ctx, before, spec); err != nil {
		return err
	}
	if _, err := credentials(d).ensureCertificates(ctx, before, spec); err != nil {
		return err
	}
	if _, err := d.apply(ctx, spec, live); err != nil {
		return err
	}
	return d.run(ctx, spec, desired)
}

// rejoin is a Takeover with the current addresses of the former servers.
func (d adoption) rejoin(ctx context.Context, before server.Takeover, statefulSet string) (*server.Takeover, error) {
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, statefulSet)
	if err != nil || sts == nil || len(before.Join) == 0 {
		return &before, err
	}
	pods, err := d.Consul.Former(sts.Name).Pods(ctx)
	if err != nil || len(pods) == 0 {
		return &before, err
	}
	_, port, err := net.SplitHostPort(before.Join[0])
	if err != nil {
		return &before, fmt.Errorf("parsing the address %q of a former server: %w", before.Join[0], err)
	}
	join, err := d.joinAddresses(ctx, sts, pods, port)
	return &server.Takeover{Replicas: before.Replicas, Join: join}, err
}

// run carries out and ends an adoption whose objects are applied.
func (d adoption) run(ctx context.Context, spec server.Spec, desired int) error {
	token, _, err := consulacl.ManagementToken(ctx, d.Consul)
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	t := d.liveTakeover(spec, token, desired)
	err = rollout.Run(ctx, t, loop(systemClock{}, spec.Update.ServerTimeout, func(a rollout.Action) {
		d.report(ctx, a)
	}))
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	spec.Takeover, spec.Replicas = nil, int32(desired) //nolint:gosec // at most 7
	live, err := ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name)
	if err != nil {
		return d.unsettled(ctx, err, spec)
	}
	if _, err := applyObjects(ctx, d.Kube, server.Objects(spec), live); err != nil {
		return d.unsettled(ctx, err, spec)
	}
	return settle(ctx, portsOf(d.Deployment), spec, desired, serverTimeout(spec))
}

// revert reverts an adoption that is not complete: it brings the former servers back to their
// number, gives them the leadership and their Services, and removes the servers of the cluster one
// at a time. It does nothing if there is no adoption, or no former server any more. It returns the
// objects of the cluster without those that it gave back.
func (d adoption) revert(ctx context.Context, spec server.Spec, live server.Set) (server.Set, error) {
	if !live.IsTakeover() {
		return live, nil
	}
	before, err := server.Parse(live, spec)
	if err != nil || before.Adopt == nil || before.Takeover == nil {
		return live, err
	}
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, before.Adopt.StatefulSet)
	if err != nil {
		return live, err
	}
	if sts != nil && replicasOf(sts) > 0 {
		token, _, err := consulacl.ManagementToken(ctx, d.Consul)
		if err != nil {
			return live, err
		}
		t := d.liveTakeover(before, token, 0)
		t.back = true
		if err := t.removeBridge(ctx, server.ClientServiceName(spec.Name)); err != nil { // of one that was killed
			return live, err
		}
		if err := rollout.Run(ctx, t, loop(systemClock{}, spec.Update.ServerTimeout, d.Report)); err != nil {
			return live, d.unsettled(ctx, err, spec)
		}
		if live, err = ReadObjects(ctx, d.Kube, spec.Namespace, spec.Name); err != nil {
			return live, err
		}
	}
	return withoutClaimable(live, before), nil
}

// Leftover says what an adoption has left behind.
func (d Deployment) Leftover(ctx context.Context, spec server.Spec) (Leftover, error) {
	l := Leftover{StatefulSet: spec.Adopt.StatefulSet}
	sts, err := kube.ReadStatefulSet(ctx, d.Kube, d.Consul.Namespace, l.StatefulSet)
	if err != nil || sts == nil {
		return Leftover{}, err
	}
	l.HelmRelease = sts.Annotations["meta.helm.sh/release-name"]
	var prefixes []string
	for i := range sts.Spec.VolumeClaimTemplates {
		prefixes = append(prefixes, sts.Spec.VolumeClaimTemplates[i].Name+"-"+sts.Name+"-")
	}
	if l.Claims, err = (volumes{d}).claimsOf(ctx, prefixes...); err != nil {
		return Leftover{}, err
	}
	for _, name := range spec.Adopt.Services {
		svc, err := d.Kube.CoreV1().Services(spec.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			continue // deleted, or the client Service of the cluster by now
		}
		for _, port := range server.Unserved(spec, svc, sts.Spec.Template.Spec) {
			l.Unserved = append(l.Unserved, name+": "+port)
		}
	}
	return l, nil
}

// drain is how long new connections may still arrive at the former servers of a Service that was
// switched: until kube-proxy has been notified, and until cached DNS names of a headless Service
// have expired.
func drain(svc *corev1.Service) time.Duration {
	if svc.Spec.ClusterIP == corev1.ClusterIPNone {
		return 30 * time.Second
	}
	return 15 * time.Second
}

// liveTakeover is an adoption in Kubernetes.
type liveTakeover struct {
	Live
	spec   server.Spec
	former *consul.Cluster
	// both has the servers of both sides.
	both *consul.Cluster
	back bool
}

func (d adoption) liveTakeover(spec server.Spec, token string, desired int) liveTakeover {
	t := liveTakeover{
		Live:   Live{Kube: d.Kube, Consul: d.Consul, Desired: desired, Token: token, ACLs: spec.ACL.Enabled, Began: d.Began},
		spec:   spec,
		former: d.Consul.Former(spec.Adopt.StatefulSet),
	}
	t.both = d.Consul.With(t.former)
	return t
}

// Look implements rollout.Cluster.
func (t liveTakeover) Look(ctx context.Context) (rollout.World, error) {
	w, err := t.look(ctx)
	return w, final(err)
}

// Do implements rollout.Cluster.
func (t liveTakeover) Do(ctx context.Context, w rollout.World, a rollout.Action) error {
	return final(t.act(ctx, w, a))
}

// act is Do without the marks.
func (t liveTakeover) act(ctx context.Context, w rollout.World, a rollout.Action) error {
	switch a.Verb {
	case rollout.Wait:
		return t.blocked(ctx)
	case rollout.Restart:
		return t.restart(ctx, w.Named(a.On))
	case rollout.Add:
		return t.scale(ctx, a.On, 1)
	case rollout.Retire:
		if a.Without != "" {
			if err := t.remove(ctx, a.Without); err != nil {
				return fmt.Errorf("removing the Raft peer %s: %w", a.Without, err)
			}
		}
		return t.scale(ctx, a.On, 0)
	case rollout.Switch:
		return t.switchService(ctx, a.On)
	case rollout.Transfer:
		return consul.TransferLeadership(ctx, t.both, t.Token, a.On)
	case rollout.Remove:
		return t.remove(ctx, a.On)
	default:
		return fmt.Errorf("an adoption does not %s", a)
	}
}

func (t liveTakeover) look(ctx context.Context) (rollout.World, error) {
	sts, err := t.Consul.RequireStatefulSet(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	old, err := kube.ReadStatefulSet(ctx, t.Kube, t.Consul.Namespace, t.spec.Adopt.StatefulSet)
	if err != nil {
		return rollout.World{}, err
	}
	if old == nil {
		old = &appsv1.StatefulSet{Spec: appsv1.StatefulSetSpec{Replicas: new(int32)}}
	}
	pods, err := t.both.Pods(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	seen := &rollout.Takeover{
		From:     t.spec.Adopt.StatefulSet,
		To:       sts.Name,
		Total:    int(t.spec.Takeover.Replicas),
		Replicas: int(replicasOf(old)),
		Back:     t.back,
	}
	w := rollout.World{
		Desired:     t.Desired,
		Replicas:    int(replicasOf(sts)),
		Observed:    sts.Status.ObservedGeneration >= sts.Generation && old.Status.ObservedGeneration >= old.Generation,
		CanTransfer: true,
		Takeover:    seen,
	}
	var running []corev1.Pod
	for i := range pods {
		s := rollout.Server{Name: pods[i].Name, UID: string(pods[i].UID), Stopped: stopped(&pods[i]), Peer: true}
		if metav1.IsControlledBy(&pods[i], sts) {
			s.Why = why(sts, &pods[i])
			s.Outdated = s.Why != ""
			w.Servers = append(w.Servers, s)
		} else {
			seen.Servers = append(seen.Servers, s)
		}
		if consul.PodReady(&pods[i]) {
			running = append(running, pods[i])
		}
	}
	if w.Unsettled, err = consul.Missing(ctx, t.both, t.Token, w.Replicas+seen.Replicas, 0); err != nil {
		return rollout.World{}, err
	}
	if len(running) > 0 {
		if leader, err := consul.LeaderPod(ctx, t.both, running); err == nil {
			w.Leader = leader.Name
		}
		if err := t.addPeers(ctx, &w, pods); err != nil {
			return rollout.World{}, err
		}
	}
	seen.Services, err = t.toSwitch(ctx)
	return w, err
}

func hasPod(pods []corev1.Pod, name string) bool {
	return slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == name })
}

// addPeers adds which servers are Raft peers, how far the log of each goes, and which peers and
// members are left of retired servers. If no server answers, it adds nothing: Unsettled then says so.
func (t liveTakeover) addPeers(ctx context.Context, w *rollout.World, pods []corev1.Pod) error {
	h, err := consul.ReadHealth(ctx, t.both, t.Token)
	if consul.IsForbidden(err) {
		return fmt.Errorf("the management token is not valid: %w", err)
	}
	if err != nil {
		return nil //nolint:nilerr // Unsettled says so
	}
	for _, list := range [][]rollout.Server{w.Servers, w.Takeover.Servers} {
		for i := range list {
			j := slices.IndexFunc(h.Servers, func(e consul.ServerHealth) bool { return e.Name == list[i].Name })
			if list[i].Peer = j >= 0 && h.Servers[j].Peer; j >= 0 {
				list[i].LastIndex = h.Servers[j].LastIndex
			}
		}
	}
	for _, e := range h.Servers {
		if !hasPod(pods, e.Name) && (e.SerfStatus == "failed" || (e.Peer && e.SerfStatus != "alive")) {
			w.Former = append(w.Former, e.Name)
		}
	}
	members, err := consul.ServerMembers(ctx, t.both, t.Token)
	if err != nil {
		w.Unsettled = cmp.Or(w.Unsettled, err.Error())
		return nil
	}
	names := make([]string, 0, len(pods))
	for i := range pods {
		names = append(names, pods[i].Name)
	}
	w.AddMembers(members, names)
	return nil
}

// toSwitch lists the Services that route to the side that is removed.
func (t liveTakeover) toSwitch(ctx context.Context) ([]string, error) {
	var out []string
	for _, name := range t.spec.Adopt.Services {
		svc, err := t.Kube.CoreV1().Services(t.Consul.Namespace).Get(ctx, name, metav1.GetOptions{})
		found, err := kube.Found(err)
		switch {
		case err != nil:
			return nil, fmt.Errorf("reading Service %s/%s: %w", t.Consul.Namespace, name, err)
		case !found:
		case t.back && server.IsSwitched(svc):
			out = append(out, name)
		case !t.back && !server.LeadsTo(svc, t.spec.Name),
			!t.back && name == server.ClientServiceName(t.spec.Name) && (!server.Owns(t.spec.Name, svc.Labels) || t.hasBridge(ctx, name)):
			out = append(out, name)
		}
	}
	return out, nil
}

// scale makes a pod the last one of its StatefulSet (more is 1), or the first one that is removed
// (0). The volumes of former servers are kept, whatever their StatefulSet says.
func (t liveTakeover) scale(ctx context.Context, pod string, more int32) error {
	dash := strings.LastIndex(pod, "-")
	ordinal, err := strconv.Atoi(pod[dash+1:])
	if err != nil || dash < 0 {
		return fmt.Errorf("%q is not a pod of a StatefulSet", pod)
	}
	name := pod[:dash]
	sets := t.Kube.AppsV1().StatefulSets(t.Consul.Namespace)
	sts, err := sets.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	start := int32(0)
	if o := sts.Spec.Ordinals; o != nil {
		start = o.Start
	}
	replicas := int32(ordinal) - start + more //nolint:gosec // an ordinal
	if replicas-replicasOf(sts) != 2*more-1 {
		return fmt.Errorf("another tool or person scaled the StatefulSet %s to %d", name, replicasOf(sts))
	}
	patch := fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q},"spec":{"replicas":%d}}`, sts.ResourceVersion, replicas)
	if p := sts.Spec.PersistentVolumeClaimRetentionPolicy; name == t.spec.Adopt.StatefulSet && p != nil &&
		p.WhenScaled == appsv1.DeletePersistentVolumeClaimRetentionPolicyType {
		patch = fmt.Appendf(
			nil,
			`{"metadata":{"resourceVersion":%q},"spec":{"replicas":%d,"persistentVolumeClaimRetentionPolicy":{"whenScaled":"Retain"}}}`,
			sts.ResourceVersion,
			replicas,
		)
	}
	_, err = sets.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
	return err
}

// remove removes a server from the Raft peers, and, if its pod is gone, from the members of every agent.
func (t liveTakeover) remove(ctx context.Context, name string) error {
	if err := consul.RemovePeer(ctx, t.both, t.Token, name); err != nil {
		return err
	}
	pods, err := t.both.Pods(ctx)
	if err != nil || slices.ContainsFunc(pods, func(p corev1.Pod) bool { return p.Name == name }) {
		return err // a server with a pod leaves by itself
	}
	return consul.ForceLeave(ctx, t.both, t.Token, name)
}

// switchService routes a Service to the side that stays. It returns when new connections arrive there.
func (t liveTakeover) switchService(ctx context.Context, name string) (err error) {
	services := t.Kube.CoreV1().Services(t.Consul.Namespace)
	svc, err := services.Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	patch := func(patch []byte, manager string) error {
		_, err := services.Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: manager})
		return err
	}
	defer func() { err = errors.Join(err, t.removeBridge(context.WithoutCancel(ctx), name)) }()
	if t.back {
		restored, restore, err := server.RestoreService(svc)
		if err == nil {
			err = t.bridge(ctx, restored, t.former)
		}
		if err == nil {
			err = patch(restore, server.ManagedBy)
		}
		if err != nil {
			return err
		}
		return pause(ctx, drain(svc))
	}
	if !server.IsSwitched(svc) {
		// With a separate field manager: the next apply of the provider would remove what an
		// earlier apply set.
		if err := patch(server.RecordFormer(svc), server.ManagedBy+"-adopt"); err != nil {
			return err
		}
	}
	if name == server.ClientServiceName(t.spec.Name) {
		wanted := server.Objects(t.spec).ClientService
		if err := t.bridge(ctx, wanted, t.Consul); err != nil {
			return err
		}
		svc.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Service"))
		_, err = applyObjects(ctx, t.Kube, server.Set{ClientService: wanted}, server.Set{ClientService: svc})
	} else {
		var former *appsv1.StatefulSet
		if former, err = t.Kube.AppsV1().StatefulSets(t.Consul.Namespace).Get(ctx, t.spec.Adopt.StatefulSet, metav1.GetOptions{}); err == nil {
			err = patch(server.SwitchService(svc, former.Spec.Template.Spec, t.spec.Name), server.ManagedBy)
		}
	}
	if err != nil {
		return err
	}
	return pause(ctx, drain(svc))
}

// bridge routes a Service, as desired, to servers before its ports are renamed. A credential
// that may not write EndpointSlices does without it.
func (t liveTakeover) bridge(ctx context.Context, svc *corev1.Service, servers *consul.Cluster) error {
	pods, err := servers.Pods(ctx)
	if err != nil {
		return err
	}
	if pods = slices.DeleteFunc(pods, func(p corev1.Pod) bool { return !consul.PodReady(&p) }); len(pods) == 0 {
		return nil
	}
	if err := t.removeBridge(ctx, svc.Name); err != nil { // of one that was killed
		return err
	}
	_, err = t.Kube.DiscoveryV1().EndpointSlices(
		svc.Namespace,
	).Create(
		ctx,
		server.Bridge(svc, pods, t.spec.Labels),
		metav1.CreateOptions{FieldManager: server.ManagedBy},
	)
	if apierrors.IsForbidden(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("routing Service %s/%s to %s: %w", svc.Namespace, svc.Name, servers.ID(), err)
	}
	return pause(ctx, bridgeLag)
}

// bridgeLag is the time within which every kube-proxy has been notified of an EndpointSlice.
const bridgeLag = 3 * time.Second

func (t liveTakeover) removeBridge(ctx context.Context, service string) error {
	_, err := kube.Found(
		t.Kube.DiscoveryV1().EndpointSlices(t.Consul.Namespace).Delete(ctx, server.BridgeName(service), metav1.DeleteOptions{}),
	)
	if apierrors.IsForbidden(err) { // then it was never created
		return nil
	}
	return err
}

// hasBridge reports whether an interrupted adoption has left one behind.
func (t liveTakeover) hasBridge(ctx context.Context, service string) bool {
	_, err := t.Kube.DiscoveryV1().EndpointSlices(t.Consul.Namespace).Get(ctx, server.BridgeName(service), metav1.GetOptions{})
	return err == nil
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// look is Look during an adoption.
func (d adoption) look(ctx context.Context, spec server.Spec, token string) (rollout.World, error) {
	w, err := d.liveTakeover(spec, token, server.MaxReplicas).Look(ctx)
	if err != nil {
		return rollout.World{}, err
	}
	for _, list := range [][]rollout.Server{w.Servers, w.Takeover.Servers} {
		for i := range list {
			list[i].LastIndex = 0
		}
	}
	return w, nil
}
