package consulacl

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// ComponentBootstrap is the component label of the Secret that holds the
// management token.
const ComponentBootstrap = "acl-bootstrap"

// SecretRef names the key of a Kubernetes Secret in the cluster's namespace
// that holds the management token.
type SecretRef struct {
	Name string
	Key  string
}

// annotationKey records the key of the management token on its Secret, and annotationProvisional that it may be moved
// (BootstrapOptions.Provisional).
const (
	annotationKey         = server.ManagedBy + "/token-key"
	annotationProvisional = server.ManagedBy + "/provisional"
)

// DefaultSecretRef is where the management token is by default.
func DefaultSecretRef(cluster string) SecretRef {
	return SecretRef{Name: cluster + "-bootstrap-token", Key: "token"}
}

// ErrSecretLost says that the ACL system was bootstrapped, but that the Secret
// does not hold a token that it knows.
var ErrSecretLost = errors.New("the management token is lost")

// ErrNoCluster says that there is no cluster with the name.
var ErrNoCluster = errors.New("there is no such cluster")

// ErrNotRestored says that a cluster is not restored yet from the snapshot that it starts from.
var ErrNotRestored = errors.New("the cluster is not restored yet from the backup that it starts from")

// ErrACLDisabled says that the servers run without ACLs.
var ErrACLDisabled = errors.New("ACLs are not enabled")

// LostError is an ErrSecretLost with its reason.
type LostError struct {
	// Reason says what is wrong with the Secret.
	Reason string
}

// Error implements error.
func (e *LostError) Error() string { return ErrSecretLost.Error() + ": " + e.Reason }

// Is makes a LostError an ErrSecretLost.
func (e *LostError) Is(target error) bool { return target == ErrSecretLost }

// SecretError says why the management token cannot be in the declared Secret. Waiting does not help.
type SecretError struct{ Reason string }

// Error implements error.
func (e *SecretError) Error() string { return e.Reason }

// ManagementToken finds the management token of the cluster in its Secret, by label. It returns "" and a zero
// reference if there is no such Secret.
func ManagementToken(ctx context.Context, c *consul.Cluster) (token string, ref SecretRef, err error) {
	s, err := managementSecret(ctx, c)
	if err != nil || s == nil {
		return "", SecretRef{}, err
	}
	token, ref = tokenIn(s)
	return token, ref, nil
}

// tokenIn reads a Secret that managementSecret found.
func tokenIn(s *corev1.Secret) (token string, ref SecretRef) {
	ref = SecretRef{Name: s.Name, Key: s.Annotations[annotationKey]}
	return strings.TrimSpace(string(s.Data[ref.Key])), ref
}

// managementSecret returns the Secret with the management token, nil if there
// is none.
func managementSecret(ctx context.Context, c *consul.Cluster) (*corev1.Secret, error) {
	all, err := managementSecrets(ctx, c)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 { // the token is being moved
		all = slices.DeleteFunc(all, isProvisional)
	}
	switch len(all) {
	case 0:
		return nil, nil //nolint:nilnil // it does not exist
	case 1:
		return &all[0], nil
	}
	var names []string
	for i := range all {
		names = append(names, all[i].Name)
	}
	return nil, &SecretError{
		fmt.Sprintf(
			"more than one Secret is labeled as the one with the management token of %s: %s; delete all except the right one",
			c.ID(),
			strings.Join(names, ", "),
		),
	}
}

func managementSecrets(ctx context.Context, c *consul.Cluster) ([]corev1.Secret, error) {
	want := server.OwnerLabels(c.Name)
	want[server.LabelComponent] = ComponentBootstrap
	list, err := c.Kube.CoreV1().Secrets(c.Namespace).List(ctx, metav1.ListOptions{LabelSelector: labels.SelectorFromSet(want).String()})
	if err != nil {
		return nil, fmt.Errorf("looking for the Secret with the management token of %s: %w", c.ID(), err)
	}
	return list.Items, nil
}

func isProvisional(s corev1.Secret) bool { return s.Annotations[annotationProvisional] != "" }

// settleSecret fixes the place of the management token, and deletes the Secrets from which it was moved.
func settleSecret(ctx context.Context, c *consul.Cluster, ref SecretRef) error {
	all, err := managementSecrets(ctx, c)
	if err != nil {
		return err
	}
	secrets := c.Kube.CoreV1().Secrets(c.Namespace)
	for i := range all {
		switch s := &all[i]; {
		case !isProvisional(*s):
			continue
		case s.Name == ref.Name:
			patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:null}}}`, annotationProvisional)
			_, err = secrets.Patch(ctx, s.Name, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: server.ManagedBy})
		default:
			err = secrets.Delete(ctx, s.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &s.UID}})
		}
		if _, err := kube.Found(err); err != nil {
			return fmt.Errorf("moving the management token of %s to Secret %s: %w", c.ID(), ref.Name, err)
		}
	}
	return nil
}

// BootstrapOptions say where the management token may be, and what to do when it is lost.
type BootstrapOptions struct {
	// Provisional says that the Secret may have another name later: an EnsureBootstrap that is not provisional
	// moves the token to the declared Secret. It does not wait for the agents to register in the catalog, which may still
	// belong to other servers.
	Provisional bool
	// Reset lets EnsureBootstrap bootstrap again.
	Reset bool
	// Keep says that the token keeps the secret ID that is in the Secret: Consul has lost the token, for
	// example by a restore, but its owner has not.
	Keep bool
	// LostAccessor is the accessor ID of the lost token, "" if unknown. It is
	// deleted after a reset.
	LostAccessor string
}

// EnsureBootstrap makes sure that ACLs are bootstrapped, that the Secret holds
// the management token, that all servers are healthy voters, and that each has
// its agent token. It returns the accessor ID of the management token.
//
// The secret is chosen and stored before Consul gets it, and the process may end after any step: another call resumes from what exists.
// While there is no leader, it tries again until the context ends. It returns ErrNoCluster, ErrNotRestored unless it is provisional,
// ErrACLDisabled, and a *LostError if the token is lost and no reset is allowed.
func EnsureBootstrap(ctx context.Context, c *consul.Cluster, ref SecretRef, options BootstrapOptions) (accessor string, err error) {
	switch sts, err := c.StatefulSet(ctx); {
	case err != nil:
		return "", err
	case sts == nil:
		return "", ErrNoCluster
	case server.ParseOrigin(sts.Annotations).Pending() && !options.Provisional:
		return "", ErrNotRestored
	}
	err = kube.Wait(ctx, "the ACL bootstrap", consul.Interval, func(ctx context.Context) (string, error) {
		// Before anything is stored, because ACLs may be off.
		if err := checkACLs(ctx, c); isTransient(err) {
			return err.Error(), nil
		} else if err != nil {
			return "", err
		}
		accessor, err = bootstrap(ctx, c, ref, options.Provisional)
		var lost *LostError
		if errors.As(err, &lost) && options.Reset {
			accessor, err = resetBootstrap(ctx, c, lost, options.Keep)
		}
		if isTransient(err) {
			return err.Error(), nil
		}
		return "", err
	})
	if err != nil {
		return "", err
	}
	if !options.Provisional {
		if err := settleSecret(ctx, c, ref); err != nil {
			return "", err
		}
	}
	Of(c).forget()
	token, _, err := ManagementToken(ctx, c)
	if err != nil {
		return "", err
	}
	if options.Reset && options.LostAccessor != "" && options.LostAccessor != accessor {
		if err := deleteToken(ctx, c, token, options.LostAccessor); err != nil {
			return "", err
		}
	}
	return accessor, finishBootstrap(ctx, c, token, options.Provisional)
}

// deleteToken deletes a token. A token that does not exist is not an error.
func deleteToken(ctx context.Context, c *consul.Cluster, management, accessor string) error {
	err := c.Any(ctx, management, func(client *api.Client) error {
		_, _, err := client.ACL().TokenRead(accessor, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		if err == nil {
			_, err = client.ACL().TokenDelete(accessor, (&api.WriteOptions{}).WithContext(ctx))
		}
		if consul.IsMissing(err) { // another call was faster
			return nil
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("deleting the lost management token %s: %w", accessor, err)
	}
	return nil
}

// finishBootstrap waits for all voters, which only a token shows, and sets the agent tokens.
func finishBootstrap(ctx context.Context, c *consul.Cluster, token string, provisional bool) error {
	return kube.Wait(ctx, "the servers", consul.Interval, func(ctx context.Context) (string, error) {
		n, err := c.Replicas(ctx)
		if err != nil {
			return "", err
		}
		if missing, err := consul.Missing(ctx, c, token, n, 0); err != nil || missing != "" {
			return missing, err
		}
		age := registrationAge
		if provisional { // what comes next may have to make room for the entries of the agents
			age = math.MaxInt64
		}
		err = setAgentTokens(ctx, c, token, age)
		if isTransient(err) || consul.IsUnknownToken(err) { // a follower knows the token a moment later
			return err.Error(), nil
		}
		return "", err
	})
}

// checkACLs returns ErrACLDisabled if the servers run without ACLs.
func checkACLs(ctx context.Context, c *consul.Cluster) error {
	err := c.Any(ctx, "", func(client *api.Client) error {
		_, _, err := client.ACL().TokenReadSelf((&api.QueryOptions{}).WithContext(ctx))
		return err
	})
	switch {
	case consul.IsACLDisabled(err):
		return ErrACLDisabled
	case consul.IsForbidden(err):
		return nil
	default:
		return err
	}
}

// bootstrap is one try.
func bootstrap(ctx context.Context, c *consul.Cluster, ref SecretRef, provisional bool) (accessor string, err error) {
	secret, err := PrepareSecret(ctx, c, ref, provisional)
	if err != nil {
		return "", err
	}
	// If the token in the Secret works, nothing is left to do.
	accessor, err = VerifyToken(ctx, c, secret)
	if err == nil || !errors.Is(err, ErrSecretLost) {
		return accessor, err
	}
	accessor, err = bootstrapWith(ctx, c, secret)
	if _, done := consul.Bootstrapped(err); !done {
		return accessor, err
	}
	// It may have been this try, if the answer of one server was lost and another server was asked.
	if accessor, err := VerifyToken(ctx, c, secret); err == nil {
		return accessor, nil
	}
	return "", &LostError{
		Reason: fmt.Sprintf("ACLs were bootstrapped before, and Consul does not know the token in Secret %s/%s", c.Namespace, ref.Name),
	}
}

// bootstrapWith calls the bootstrap endpoint with a chosen secret (Consul 1.15
// and later).
func bootstrapWith(ctx context.Context, c *consul.Cluster, secret string) (accessor string, err error) {
	err = c.Any(ctx, "", func(client *api.Client) error {
		var reply api.ACLToken
		_, err := client.Raw().Write(
			"/v1/acl/bootstrap",
			map[string]string{"BootstrapSecret": secret},
			&reply,
			(&api.WriteOptions{}).WithContext(ctx),
		)
		accessor = reply.AccessorID
		return err
	})
	switch {
	case consul.IsACLDisabled(err):
		return "", ErrACLDisabled
	case err != nil:
		return "", fmt.Errorf("bootstrapping the ACL system of %s: %w", c.ID(), err)
	}
	return accessor, nil
}

// VerifyToken returns the accessor ID of the management token in secret, which was read from a Secret. It
// returns an ErrSecretLost if there is no token or the servers do not know it, and another error if they cannot
// be asked.
func VerifyToken(ctx context.Context, c *consul.Cluster, secret string) (accessor string, err error) {
	if secret == "" {
		return "", &LostError{Reason: "no Secret contains it"}
	}
	var self *api.ACLToken
	err = c.Any(ctx, secret, func(client *api.Client) error {
		var err error
		self, _, err = client.ACL().TokenReadSelf((&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
		return err
	})
	switch {
	case consul.IsACLDisabled(err):
		return "", ErrACLDisabled
	case consul.IsUnknownToken(err):
		return "", &LostError{Reason: "Consul does not know the token in the Secret"}
	case err != nil:
		return "", fmt.Errorf("verifying the management token of %s: %w", c.ID(), err)
	}
	if !slices.ContainsFunc(self.Policies, func(p *api.ACLTokenPolicyLink) bool { return p.ID == GlobalManagementID }) {
		return "", &LostError{Reason: fmt.Sprintf("the token %s in the Secret lacks the policy global-management", self.AccessorID)}
	}
	return self.AccessorID, nil
}

// isTransient reports whether an error may go away by waiting: there is no leader yet, or a server is not
// reached.
func isTransient(err error) bool {
	switch {
	case err == nil,
		errors.Is(err, ErrACLDisabled),
		errors.Is(err, ErrSecretLost),
		errors.Is(err, ErrNotRestored),
		errors.As(err, new(*SecretError)):
		return false
	case errors.Is(err, consul.ErrNoServer):
		return true
	}
	var status apierrors.APIStatus // an answer of Kubernetes, not of Consul
	if errors.As(err, &status) {
		return apierrors.IsServerTimeout(err) || apierrors.IsTooManyRequests(err) || apierrors.IsServiceUnavailable(err)
	}
	return consul.AnotherMayAnswer(err)
}

// PrepareSecret returns the token in the Secret, and creates the Secret and the token if they are missing. It
// never overwrites an existing token, or a Secret that does not belong to the cluster. A later call may move a
// provisional token.
func PrepareSecret(ctx context.Context, c *consul.Cluster, ref SecretRef, provisional bool) (string, error) {
	existing, err := managementSecret(ctx, c)
	if err != nil {
		return "", err
	}
	if existing != nil {
		token, found := tokenIn(existing)
		switch {
		case found != ref && isProvisional(*existing) && token != "":
			return token, moveToken(ctx, c, existing, ref)
		case found != ref:
			return "", elsewhereError(c, found, ref)
		case token != "":
			return token, nil
		}
	}
	if existing != nil {
		return storeToken(ctx, c, ref, existing)
	}
	token := uuid.NewString()
	return token, makeSecret(ctx, c, ref, token, provisional)
}

// CheckSecret returns a *SecretError if EnsureBootstrap would refuse a Secret, or its contents. It changes nothing.
func CheckSecret(ctx context.Context, c *consul.Cluster, ref SecretRef) error {
	existing, err := managementSecret(ctx, c)
	if err != nil {
		return err
	}
	if existing == nil {
		_, err := c.Kube.CoreV1().Secrets(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
		found, err := kube.Found(err)
		switch {
		case err != nil:
			return fmt.Errorf("reading Secret %s/%s: %w", c.Namespace, ref.Name, err)
		case found:
			return takenError(c, ref)
		}
		return nil
	}
	token, found := tokenIn(existing)
	switch {
	case found != ref && (!isProvisional(*existing) || token == ""):
		return elsewhereError(c, found, ref)
	case token == "" || uuid.Validate(token) == nil:
		return nil
	}
	// Running servers may have been given such a token by their configuration.
	if exists, err := c.Exists(ctx); err != nil || exists {
		return err
	}
	return &SecretError{
		fmt.Sprintf(
			"the key %s of Secret %s/%s does not hold a UUID, and Consul accepts nothing else as a management token: put a UUID there, such as "+
				"one that uuidgen prints",
			ref.Key,
			c.Namespace,
			ref.Name,
		),
	}
}

func elsewhereError(c *consul.Cluster, found, ref SecretRef) error {
	return &SecretError{
		fmt.Sprintf(
			"the management token of %s is in key %q of Secret %s, and not in key %q of Secret %s: declare the Secret that holds the token, or "+
				"move the token",
			c.ID(),
			found.Key,
			found.Name,
			ref.Key,
			ref.Name,
		),
	}
}

// takenError says how a Secret that another tool or person made becomes the one with the management token.
func takenError(c *consul.Cluster, ref SecretRef) error {
	owner := server.OwnerLabels(c.Name)
	owner[server.LabelComponent] = ComponentBootstrap
	return &SecretError{
		fmt.Sprintf(
			"the Secret %[1]s/%[2]s exists, and does not have the labels of this cluster. Choose another name, or delete the Secret if nothing "+
				"uses it. "+
				"If its key %[3]s holds the management token, or a UUID that is to become the management token, label and annotate the Secret:\n\n"+
				"  kubectl label secret --namespace %[1]s %[2]s %[4]s\n  kubectl annotate secret --namespace %[1]s %[2]s %[5]s=%[3]s\n\n"+
				"If another program writes the Secret, such as the External Secrets Operator, let it write these labels and the annotation too",
			c.Namespace,
			ref.Name,
			ref.Key,
			strings.ReplaceAll(labels.FormatLabels(owner), ",", " "),
			annotationKey,
		),
	}
}

// moveToken puts the token of a provisional Secret where it is declared. settleSecret completes the move.
func moveToken(ctx context.Context, c *consul.Cluster, from *corev1.Secret, to SecretRef) error {
	token, ref := tokenIn(from)
	if from.Name != to.Name {
		return makeSecret(ctx, c, to, token, false)
	}
	patch := fmt.Appendf(nil, `{"metadata":{"resourceVersion":%q,"annotations":{%q:%q}},"data":{%q:%q,%q:null}}`,
		from.ResourceVersion, annotationKey, to.Key, to.Key, base64.StdEncoding.EncodeToString([]byte(token)), ref.Key)
	_, err := c.Kube.CoreV1().Secrets(
		c.Namespace,
	).Patch(
		ctx,
		from.Name,
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	if err != nil {
		return fmt.Errorf("moving the management token to the key %s of Secret %s/%s: %w", to.Key, c.Namespace, from.Name, err)
	}
	return nil
}

// storeToken chooses a token and puts it into the Secret. It fails if the Secret was changed meanwhile.
func storeToken(ctx context.Context, c *consul.Cluster, ref SecretRef, existing *corev1.Secret) (token string, err error) {
	token = uuid.NewString()
	patch := fmt.Appendf(
		nil,
		`{"metadata":{"resourceVersion":%q},"data":{%q:%q}}`,
		existing.ResourceVersion,
		ref.Key,
		base64.StdEncoding.EncodeToString([]byte(token)),
	)
	_, err = c.Kube.CoreV1().Secrets(
		c.Namespace,
	).Patch(
		ctx,
		existing.Name,
		types.MergePatchType,
		patch,
		metav1.PatchOptions{FieldManager: server.ManagedBy},
	)
	if err != nil {
		return "", fmt.Errorf("storing the management token in Secret %s/%s: %w", c.Namespace, ref.Name, err)
	}
	return token, nil
}

// makeSecret creates the Secret with a management token.
func makeSecret(ctx context.Context, c *consul.Cluster, ref SecretRef, token string, provisional bool) error {
	owner := server.OwnerLabels(c.Name)
	owner[server.LabelComponent] = ComponentBootstrap
	all, err := c.Labels(ctx, owner)
	if err != nil {
		return err
	}
	s := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: ref.Name, Namespace: c.Namespace, Labels: all,
			Annotations: map[string]string{annotationKey: ref.Key},
		},
		Data: map[string][]byte{ref.Key: []byte(token)},
	}
	if provisional {
		s.Annotations[annotationProvisional] = "true"
	}
	_, err = c.Kube.CoreV1().Secrets(c.Namespace).Create(ctx, s, metav1.CreateOptions{FieldManager: server.ManagedBy})
	switch {
	case apierrors.IsAlreadyExists(err):
		return takenError(c, ref)
	case err != nil:
		return fmt.Errorf("storing the management token in Secret %s/%s: %w", c.Namespace, ref.Name, err)
	}
	return nil
}

// resetBootstrap bootstraps again after the management token was lost, by the reset procedure of Consul: the reset index
// is written into the data directory of the leader, which requires exec in that pod. The token is a new one,
// whatever the Secret holds, unless keep is set.
func resetBootstrap(ctx context.Context, c *consul.Cluster, lost *LostError, keep bool) (accessor string, err error) {
	existing, err := managementSecret(ctx, c)
	if err != nil {
		return "", err
	}
	if existing == nil {
		return "", lost // it existed a moment ago
	}
	token, ref := tokenIn(existing)
	if !keep || token == "" {
		if token, err = storeToken(ctx, c, ref, existing); err != nil {
			return "", err
		}
	}
	// Only a refused bootstrap shows the index that is valid now.
	accessor, err = bootstrapWith(ctx, c, token)
	index, done := consul.Bootstrapped(err)
	if !done {
		return accessor, err
	}
	pods, err := c.Pods(ctx)
	if err != nil {
		return "", err
	}
	leader, err := consul.LeaderPod(ctx, c, pods)
	if err != nil {
		return "", err
	}
	// The index is not a secret, and an argument always arrives: containerd may end a command before all of its
	// stdin has arrived (containerd/containerd#12734).
	_, err = c.Kube.Exec(ctx, c.Namespace, leader.Name, server.ContainerName, nil,
		"/bin/sh", "-c", `printf %s "$1" > `+server.ResetFile, "sh", strconv.FormatUint(index, 10))
	if err != nil {
		return "", fmt.Errorf("writing the ACL reset index: %w", err)
	}
	return bootstrapWith(ctx, c, token)
}

// KeepManagementToken puts a valid management token into the Secret in which ManagementToken finds it, and from
// which consul_k8s_acl_bootstrap may move it. It reports whether it created the Secret. A Secret that holds
// another token is an error.
func KeepManagementToken(ctx context.Context, c *consul.Cluster, token string) (made bool, err error) {
	held, ref, err := ManagementToken(ctx, c)
	if err != nil || held == token {
		return false, err
	}
	if held != "" {
		return false, fmt.Errorf(
			"the Secret %s/%s holds another management token of %s: delete the Secret if it is left over from an earlier cluster",
			c.Namespace,
			ref.Name,
			c.ID(),
		)
	}
	if err := makeSecret(ctx, c, DefaultSecretRef(c.Name), token, true); err != nil {
		return false, err
	}
	return true, nil
}

// ForgetManagementToken deletes the Secret that KeepManagementToken made.
func ForgetManagementToken(ctx context.Context, c *consul.Cluster) error {
	_, ref, err := ManagementToken(ctx, c)
	if err != nil || ref.Name == "" {
		return err
	}
	err = c.Kube.CoreV1().Secrets(c.Namespace).Delete(ctx, ref.Name, metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting Secret %s/%s: %w", c.Namespace, ref.Name, err)
	}
	return nil
}

// SecretToken reads a token from a key of a Secret in the namespace of the cluster, "" if the Secret has no
// such key.
func SecretToken(ctx context.Context, c *consul.Cluster, ref SecretRef) (string, error) {
	s, err := c.Kube.CoreV1().Secrets(c.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("reading Secret %s/%s: %w", c.Namespace, ref.Name, err)
	}
	return strings.TrimSpace(string(s.Data[ref.Key])), nil
}
