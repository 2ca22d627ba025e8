// Package consulacl is Consul's ACL system in one cluster: its objects, with a cache that shows what the same run wrote, the bootstrap, the
// tokens of agents and backups, auth methods, and tokens that are delivered to Secrets. It does not know about Terraform.
package consulacl

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	"golang.org/x/sync/singleflight"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/lock"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// Errors of ACL, apart from *PermissionError. Any other error means that nothing is known about the object.
var (
	// ErrNotFound says that an object does not exist, according to a request with a credential that Consul
	// knows.
	ErrNotFound = errors.New("it does not exist")
	// ErrExists says that there is an object with the name, or a token with the IDs.
	ErrExists = errors.New("it already exists")
	// ErrCredential says that Consul does not know the management token, or that there is no management token:
	// no answer of Consul says whether an object exists.
	ErrCredential = errors.New("the management token is not valid")
	// ErrUnreachable says that no server answered, or no server that has a leader.
	ErrUnreachable = errors.New("no answer from Consul")
)

// ACL is the ACL system of one cluster as one run of the provider sees it. It uses the management token in the
// cluster's Secret. Each type is listed once, and all callers share the list. What is written meanwhile is also
// written into the list, so that the list never hides a change of the same run. Calls wait for a server that is
// overloaded (429, 503) or has no leader, until their context ends. ACL is safe for concurrent use.
type ACL struct {
	Policies     *Objects[api.ACLPolicy, *api.ACLPolicyListEntry]
	Roles        *Objects[api.ACLRole, *api.ACLRole]
	Tokens       *Objects[api.ACLToken, *api.ACLTokenListEntry]
	AuthMethods  *Objects[api.ACLAuthMethod, *api.ACLAuthMethodListEntry]
	BindingRules *Objects[api.ACLBindingRule, *api.ACLBindingRule]
	Deliveries   *Deliveries

	cluster *consul.Cluster
	asking  singleflight.Group // of Authorize, by right

	mu         sync.Mutex
	credential string
	rights     map[string]error // of the credential
	servers    []corev1.Pod
	listedAt   time.Time // servers
}

// Of returns the ACL system of the cluster, the same one for all users of the Connector.
func Of(c *consul.Cluster) *ACL {
	return c.Shared("ACL", func() any { return newACL(c) }).(*ACL) //nolint:forcetypeassert // as it was made
}

// Cluster is the cluster whose ACL system it is.
func (a *ACL) Cluster() *consul.Cluster { return a.cluster }

// IsOwnToken reports whether an accessor ID is that of the management token.
func (a *ACL) IsOwnToken(ctx context.Context, accessorID string) (bool, error) {
	var self *api.ACLToken
	err := a.Do(ctx, func(client *api.Client) (err error) {
		self, err = readSelf(ctx, client)
		return err
	})
	return err == nil && self.AccessorID == accessorID, err
}

// forget makes the next calls ask Consul again, as after a bootstrap.
func (a *ACL) forget() {
	a.mu.Lock()
	a.credential = ""
	clear(a.rights)
	a.mu.Unlock()
	for _, o := range []interface{ forget() }{a.Policies, a.Roles, a.Tokens, a.AuthMethods, a.BindingRules} {
		o.forget()
	}
}

// retryDelay grows from a fifth of a second to five, and differs from caller to
// caller.
func retryDelay() wait.DelayFunc {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 8, Cap: 5 * time.Second}.DelayFunc()
}

// Do calls do with a client that has the management token, on one server after another, until one answers or
// the context ends. A context without a deadline gets listTimeout. It returns ErrNoCluster, ErrCredential,
// ErrUnreachable, ErrACLDisabled, a *PermissionError, or what do returned.
func (a *ACL) Do(ctx context.Context, do func(*api.Client) error) error {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, listTimeout)
		defer cancel()
	}
	var last error
	err := retryDelay().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		last = a.once(ctx, do)
		credential := errors.Is(last, ErrCredential)
		if credential || isTransient(last) {
			// A cluster that does not exist has no credential: do not wait for it.
			if gone, goneErr := a.cluster.Gone(ctx); goneErr == nil && gone {
				last = ErrNoCluster
				return true, nil
			}
		}
		return credential || !isTransient(last), nil
	})
	switch permission := consul.AsPermissionError(last); {
	case errors.Is(last, ErrCredential), errors.Is(last, ErrNoCluster):
		return last
	case err != nil || isTransient(last):
		return fmt.Errorf("%w: %w", ErrUnreachable, errors.Join(last, context.Cause(ctx)))
	case consul.IsACLDisabled(last):
		return ErrACLDisabled
	case consul.IsUnknownCredential(last):
		return fmt.Errorf("%w: Consul does not know the one in the Secret", ErrCredential)
	case permission != nil:
		return permission
	}
	return last
}

// once is one try. A credential that Consul does not know may have been
// replaced since it was read.
func (a *ACL) once(ctx context.Context, do func(*api.Client) error) error {
	token, err := a.token(ctx, "")
	if err != nil {
		return err
	}
	err = a.any(ctx, token, do)
	if !consul.IsUnknownCredential(err) {
		return err
	}
	fresh, tokenErr := a.token(ctx, token)
	if tokenErr != nil || fresh == token {
		return errors.Join(err, tokenErr)
	}
	return a.any(ctx, fresh, do)
}

// podsAge is how long the list of server pods is used while the servers answer: a thousand objects need not ask
// Kubernetes a thousand times.
const podsAge = 5 * time.Second

// any is Cluster.Any, with a list of pods that may be a moment old.
func (a *ACL) any(ctx context.Context, token string, do func(*api.Client) error) error {
	a.mu.Lock()
	pods, fresh := a.servers, time.Since(a.listedAt) < podsAge
	a.mu.Unlock()
	if !fresh {
		var err error
		if pods, err = a.cluster.Pods(ctx); err != nil {
			return err
		}
		a.mu.Lock()
		a.servers, a.listedAt = pods, time.Now()
		a.mu.Unlock()
	}
	err := a.cluster.AnyOf(pods, token, do)
	if err != nil && consul.AnotherMayAnswer(err) {
		a.mu.Lock()
		a.listedAt = time.Time{}
		a.mu.Unlock()
	}
	return err
}

// token returns the management token. It reads the Secret once, and again if the token that it has is the stale
// one.
func (a *ACL) token(ctx context.Context, stale string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.credential != stale {
		return a.credential, nil
	}
	secret, err := managementSecret(ctx, a.cluster)
	if err != nil {
		return "", err
	}
	token := ""
	if secret != nil {
		token, _ = tokenIn(secret)
	}
	if secret != nil && isProvisional(*secret) { // what is made now would be replaced
		sts, err := a.cluster.StatefulSet(ctx)
		if err != nil {
			return "", err
		}
		if sts != nil && server.ParseOrigin(sts.Annotations).Pending() {
			return "", ErrNotRestored
		}
	}
	if token == "" {
		return "", fmt.Errorf("%w: there is no Secret with the management token of %s", ErrCredential, a.cluster.ID())
	}
	if token != a.credential {
		clear(a.rights)
	}
	a.credential = token
	return token, nil
}

// Authorize returns a *PermissionError unless the management token has a right
// on the ACL system, "read" or "write". It asks once a run, by
// /v1/internal/acl/authorize, which the web UI asks too.
func (a *ACL) Authorize(ctx context.Context, access string) error {
	flight := a.asking.DoChan(access, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTimeout)
		defer cancel()
		return nil, a.authorize(ctx, access)
	})
	select {
	case <-ctx.Done():
		return fmt.Errorf("asking %s whether the token has the right acl:%s: %w", a.cluster.ID(), access, ctx.Err())
	case r := <-flight:
		return r.Err
	}
}

func (a *ACL) authorize(ctx context.Context, access string) error {
	a.mu.Lock()
	known, ok := a.rights[access]
	a.mu.Unlock()
	if ok {
		return known
	}
	type question struct{ Resource, Access string }
	var self *api.ACLToken // of the token that lacks the right
	err := a.Do(ctx, func(client *api.Client) (err error) {
		var answers []struct{ Allow bool }
		self = nil
		if _, err = client.Raw().Write(consul.PathAuthorize, []question{{"acl", access}}, &answers, write(ctx)); err != nil {
			return err
		}
		if len(answers) == 1 && !answers[0].Allow {
			self, err = readSelf(ctx, client)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("asking %s whether the token has the right acl:%s: %w", a.cluster.ID(), access, err)
	}
	var refused error
	if self != nil {
		refused = &consul.PermissionError{AccessorID: self.AccessorID, Permission: "acl:" + access}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.rights[access] = refused
	return refused
}

// readSelf reads the token that a client presents, whatever its rights.
func readSelf(ctx context.Context, client *api.Client) (*api.ACLToken, error) {
	self, _, err := client.ACL().TokenReadSelf(consistent(ctx))
	if consul.IsTokenMissing(err) {
		err = consul.UnknownCredentialError()
	}
	return self, err
}

// caughtUp calls a write, and calls it again if an object that it names was not found: a new leader answers
// writes before it has applied the log of its predecessor, but a consistent read only after that.
func caughtUp[T any](write, consistentRead func() (*T, error)) (*T, error) {
	written, err := write()
	if !consul.IsUpdateOfMissing(err) && !consul.IsLinkOfMissing(err) {
		return written, err
	}
	if _, err := consistentRead(); err != nil && !consul.IsMissing(err) {
		return nil, err
	}
	return write()
}

func consistent(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx)
}

func write(ctx context.Context) *api.WriteOptions { return (&api.WriteOptions{}).WithContext(ctx) }

// Objects are the objects of one type in the ACL system: T as it is read and
// written, L as it is listed.
type Objects[T, L any] struct {
	acl  *ACL
	kind string

	id      func(T) string
	entryID func(L) string
	// entry makes the list's entry of what was read.
	entry func(T) L
	// same reports whether an object has the content that is wanted.
	same func(wanted, existing T) bool
	// find reads the object that a create collides with; nil if nothing collides, or if the object is not known.
	find func(ctx context.Context, client *api.Client, wanted T) (*T, error)
	// findFirst says that Consul does not refuse a create that collides: find is called before the create.
	findFirst bool

	list   func(context.Context, *api.Client) ([]L, error)
	read   func(context.Context, *api.Client, string) (*T, error)
	create func(context.Context, *api.Client, *T) (*T, error)
	update func(context.Context, *api.Client, *T) (*T, error)
	remove func(context.Context, *api.Client, string) error
	// linkedBy are notified when an object was renamed or deleted, because their lists show it.
	linkedBy []interface{ forget() }

	flight   singleflight.Group
	creating lock.Mutex // held where findFirst

	mu         sync.Mutex
	generation int // counts writes
	known      bool
	entries    []L
	failed     error // of the list since the last write, for a moment
	failedAt   time.Time
	owned      map[string]bool
}

// patience is how long a list that failed is not tried again: a thousand objects must not wait, one by one, for
// a Consul that does not answer.
const patience = 15 * time.Second

// listTimeout bounds the wait for a list.
const listTimeout = 20 * time.Second

// List returns all objects of the type. The caller must not change them.
func (o *Objects[T, L]) List(ctx context.Context) ([]L, error) {
	entries, generation, done, err := o.cached()
	if done {
		return entries, err
	}
	// A list that began before a write is not shared with callers that ask after the write. It continues
	// without the caller that began it.
	flight := o.flight.DoChan(strconv.Itoa(generation), func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), listTimeout)
		defer cancel()
		return o.fetch(ctx, generation)
	})
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("listing %s of %s: %w", plural(o.kind), o.acl.cluster.ID(), ctx.Err())
	case r := <-flight:
		entries, _ := r.Val.([]L)
		return entries, r.Err
	}
}

// cached returns how the last list ended. done says that this is still valid.
func (o *Objects[T, L]) cached() (entries []L, generation int, done bool, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.known && o.failed != nil && time.Since(o.failedAt) < patience {
		return nil, o.generation, true, o.failed
	}
	return o.entries, o.generation, o.known, nil
}

func (o *Objects[T, L]) fetch(ctx context.Context, generation int) ([]L, error) {
	// A flight may have ended between the caller's look and this one.
	entries, now, done, err := o.cached()
	if done && now == generation {
		return entries, err
	}
	err = o.acl.Do(ctx, func(client *api.Client) (err error) {
		entries, err = o.list(ctx, client)
		return err
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("listing %s of %s: %w", plural(o.kind), o.acl.cluster.ID(), err)
		if o.generation == generation {
			o.failed, o.failedAt = err, time.Now()
		}
		return nil, err
	}
	if o.generation == generation {
		o.known, o.entries = true, entries
	}
	return entries, nil
}

// Get returns the entry of one object from the list, or ErrNotFound.
func (o *Objects[T, L]) Get(ctx context.Context, id string) (entry L, err error) {
	entries, err := o.List(ctx)
	if err != nil {
		return entry, err
	}
	for _, e := range entries {
		if o.entryID(e) == id {
			return e, nil
		}
	}
	return entry, fmt.Errorf("%s %s of %s: %w", o.kind, id, o.acl.cluster.ID(), ErrNotFound)
}

// Read reads one object from the leader, or returns ErrNotFound.
func (o *Objects[T, L]) Read(ctx context.Context, id string) (*T, error) {
	var object *T
	err := o.acl.Do(ctx, func(client *api.Client) (err error) {
		object, err = o.read(ctx, client, id)
		return err
	})
	if consul.IsMissing(err) || (err == nil && object == nil) {
		err = ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("reading the %s %s of %s: %w", o.kind, id, o.acl.cluster.ID(), err)
	}
	return object, nil
}

// Create creates an object and returns it as the leader reads it. If the answer to an earlier create was lost,
// the object is found by its name and content, unless it belongs to another resource (Own). Otherwise,
// ErrExists is returned.
func (o *Objects[T, L]) Create(ctx context.Context, wanted T) (*T, error) {
	var made *T
	err := o.acl.Do(ctx, func(client *api.Client) (err error) {
		made, err = o.tryCreate(ctx, client, wanted)
		return err
	})
	if consul.IsDuplicate(err) {
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	if err != nil {
		o.doubt(err)
		return nil, fmt.Errorf("creating a %s in %s: %w", o.kind, o.acl.cluster.ID(), err)
	}
	return o.written(ctx, o.id(*made))
}

// tryCreate is one try. What it returns is owned.
func (o *Objects[T, L]) tryCreate(ctx context.Context, client *api.Client, wanted T) (*T, error) {
	if o.findFirst {
		unlock, err := o.creating.Lock(ctx)
		if err != nil {
			return nil, err
		}
		defer unlock()
		if existing, err := o.find(ctx, client, wanted); err != nil || existing != nil {
			return o.adopt(wanted, existing, consul.DuplicateError(o.kind), err)
		}
	}
	made, err := caughtUp(func() (*T, error) { return o.create(ctx, client, &wanted) },
		func() (*T, error) { return o.find(ctx, client, wanted) })
	switch {
	case err == nil && !o.claim(o.id(*made)):
		// Another resource of this run, planned with the same name, has found it and claimed it.
		return nil, consul.DuplicateError(o.kind)
	case consul.IsDuplicate(err) && !o.findFirst:
		existing, findErr := o.find(ctx, client, wanted)
		return o.adopt(wanted, existing, err, findErr)
	}
	return made, err
}

// adopt takes an object that find has found, or returns the error of the create
// that collided with it.
func (o *Objects[T, L]) adopt(wanted T, existing *T, collision, findErr error) (*T, error) {
	if findErr != nil {
		return nil, findErr
	}
	if existing == nil || !o.same(wanted, *existing) || !o.claim(o.id(*existing)) {
		return nil, collision
	}
	return existing, nil
}

// Update changes an object and returns it as the leader reads it. It returns
// ErrNotFound if the object does not exist, and ErrExists if the new name is taken.
func (o *Objects[T, L]) Update(ctx context.Context, wanted T) (*T, error) {
	err := o.acl.Do(ctx, func(client *api.Client) error {
		_, err := caughtUp(func() (*T, error) { return o.update(ctx, client, &wanted) },
			func() (*T, error) { return o.read(ctx, client, o.id(wanted)) })
		return err
	})
	switch {
	case consul.IsUpdateOfMissing(err):
		err = ErrNotFound
	case consul.IsDuplicate(err):
		err = fmt.Errorf("%w: %w", ErrExists, err)
	}
	if err != nil {
		o.doubt(err)
		return nil, fmt.Errorf("changing the %s %s of %s: %w", o.kind, o.id(wanted), o.acl.cluster.ID(), err)
	}
	o.renamed()
	return o.written(ctx, o.id(wanted))
}

// readBack is how long an object that was just written may be missing: a new leader may not have applied it,
// and a server that asked for a token too early remembers for 30 s that the token does not exist
// (acl_token_ttl). If a server does not answer, the call waits for it as long as the caller has time.
const readBack = 35 * time.Second

// written reads what was just written, and puts it into the list.
func (o *Objects[T, L]) written(ctx context.Context, id string) (*T, error) {
	var object *T
	var err error
	var missing time.Time // since when it is missing
	_ = retryDelay().Until(ctx, true, true, func(ctx context.Context) (bool, error) {
		object, err = o.Read(ctx, id)
		if !errors.Is(err, ErrNotFound) {
			return true, nil
		}
		if missing.IsZero() {
			missing = time.Now()
		}
		return time.Since(missing) >= readBack, nil
	})
	if err != nil {
		o.forget()
		return nil, err
	}
	o.put(*object)
	o.Own(id)
	return object, nil
}

// Delete deletes an object. An object that no longer exists, according to a request with a valid credential, is
// not an error.
func (o *Objects[T, L]) Delete(ctx context.Context, id string) error {
	err := o.acl.Do(ctx, func(client *api.Client) error {
		err := o.remove(ctx, client, id)
		if !consul.IsMissing(err) {
			return err
		}
		// Consul also gives this answer to a credential that it does not know, and a new leader that has not
		// caught up may give it. A consistent read shows which it is.
		existing, err := o.read(ctx, client, id)
		switch {
		case consul.IsMissing(err) || (err == nil && existing == nil):
			return nil
		case err == nil:
			return fmt.Errorf("the %s %s was not found, but it exists", o.kind, id)
		}
		return err
	})
	if err != nil {
		o.doubt(err)
		return fmt.Errorf("deleting the %s %s of %s: %w", o.kind, id, o.acl.cluster.ID(), err)
	}
	o.mu.Lock()
	delete(o.owned, id)
	o.replace(id, nil)
	o.mu.Unlock()
	o.renamed()
	return nil
}

// Own records that an object belongs to a resource in the state: a create does not claim it.
func (o *Objects[T, L]) Own(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.owned[id] = true
}

func (o *Objects[T, L]) isOwned(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.owned[id]
}

// claim is Own, unless another resource already owns the object.
func (o *Objects[T, L]) claim(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.owned[id] {
		return false
	}
	o.owned[id] = true
	return true
}

func (o *Objects[T, L]) put(object T) {
	o.mu.Lock()
	defer o.mu.Unlock()
	e := o.entry(object)
	o.replace(o.id(object), &e)
}

// replace puts an entry into the list, or removes it, and makes lists under way
// outdated. The list that others hold is left alone. The caller holds the lock.
func (o *Objects[T, L]) replace(id string, entry *L) {
	o.generation++
	o.failed = nil // Consul answers again
	if !o.known {
		return
	}
	var entries []L
	for _, e := range o.entries {
		if o.entryID(e) != id {
			entries = append(entries, e)
		}
	}
	if entry != nil {
		entries = append(entries, *entry)
	}
	o.entries = entries
}

func (o *Objects[T, L]) renamed() {
	for _, other := range o.linkedBy {
		other.forget()
	}
}

// doubt makes the next List ask again if a write may have been carried out.
func (o *Objects[T, L]) doubt(err error) {
	if !errors.Is(err, ErrUnreachable) {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.generation++
	o.known, o.entries = false, nil
}

// forget makes the next List ask again.
func (o *Objects[T, L]) forget() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.generation++
	o.known, o.entries, o.failed = false, nil, nil
}

func plural(kind string) string {
	if kind == "policy" {
		return "policies"
	}
	return kind + "s"
}
