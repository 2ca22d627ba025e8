package consulacl_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/proof/acctest"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

func TestMain(m *testing.M) { acctest.Main(m) }

var versions = []string{acctest.ConsulVersion, acctest.OlderVersion}

// aclCluster is a cluster for tests of its ACL system.
type aclCluster struct {
	*consul.Cluster
	management string
	n          int
}

func newACLCluster(t *testing.T, version string, changes ...func(*server.Spec)) *aclCluster {
	t.Helper()
	c, token := acctest.Bootstrapped(t, version, changes...)
	return &aclCluster{Cluster: c, management: token}
}

// do calls Consul with the management token, without the code under test.
func (c *aclCluster) do(t *testing.T, do func(*api.Client) error) {
	t.Helper()
	if err := c.Any(t.Context(), c.management, do); err != nil {
		t.Fatal(err)
	}
}

// token creates a token with rules and returns it.
func (c *aclCluster) token(t *testing.T, rules string, expires time.Duration) *api.ACLToken {
	t.Helper()
	token := &api.ACLToken{ExpirationTTL: expires}
	c.do(t, func(client *api.Client) (err error) {
		if rules != "" {
			name := c.name("credential")
			if _, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{Name: name, Rules: rules}, nil); err != nil {
				return err
			}
			token.Policies = []*api.ACLLink{{Name: name}}
		}
		token, _, err = client.ACL().TokenCreate(token, nil)
		return err
	})
	return token
}

func (c *aclCluster) deleteToken(t *testing.T, accessor string) {
	t.Helper()
	c.do(t, func(client *api.Client) error {
		_, err := client.ACL().TokenDelete(accessor, nil)
		return err
	})
}

// name returns a unique name.
func (c *aclCluster) name(of string) string {
	c.n++
	return fmt.Sprintf("%s-%d", of, c.n)
}

// store writes a token into the Secret of the management token.
func (c *aclCluster) store(t *testing.T, secret string) {
	t.Helper()
	k := acctest.Kube(t)
	_, ref, err := consulacl.ManagementToken(t.Context(), c.Cluster)
	if err != nil {
		t.Fatal(err)
	}
	s, err := k.CoreV1().Secrets(c.Namespace).Get(t.Context(), ref.Name, metav1.GetOptions{})
	if err == nil {
		s.Data[ref.Key] = []byte(secret)
		_, err = k.CoreV1().Secrets(c.Namespace).Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// acl is the ACL system as in a new run of the provider.
func (c *aclCluster) acl(t *testing.T) *consulacl.ACL {
	t.Helper()
	return consulacl.Of(consul.NewConnector(acctest.Kube(t)).Cluster(c.Namespace, c.Name))
}

// aclObjects is one type of object of the ACL system, without its Go types.
type aclObjects struct {
	kind string
	// path of an object and of the list, for direct requests to Consul.
	path, listPath string
	// make creates an object without the code under test, and returns its ID.
	make    func(*api.Client, string) (string, error)
	change  func(*api.Client, string) error // also without the code under test
	missing string

	create func(ctx context.Context, a *consulacl.ACL, name, description string) (id string, err error)
	read   func(context.Context, *consulacl.ACL, string) error
	update func(context.Context, *consulacl.ACL, string) error
	delete func(context.Context, *consulacl.ACL, string) error
	list   func(context.Context, *consulacl.ACL) (ids []string, err error)
	own    func(*consulacl.ACL, string)
}

// objectsOf builds an aclObjects.
func objectsOf[T, L any](
	kind, path, listPath string,
	of func(*consulacl.ACL) *consulacl.Objects[T, L],
	wanted func(id, name, description string) T,
	id func(*T) string,
	entryID func(L) string,
	create, change func(*api.Client, *T) (*T, error),
) aclObjects {
	made := func(o *T, err error) (string, error) {
		if err != nil {
			return "", err
		}
		return id(o), nil
	}
	return aclObjects{
		kind: kind, path: path, listPath: listPath, missing: uuid.NewString(),
		make: func(client *api.Client, name string) (string, error) {
			o := wanted("", name, "as it was")
			return made(create(client, &o))
		},
		change: func(client *api.Client, id string) error {
			o := wanted(id, "changed-"+id, "changed")
			_, err := change(client, &o)
			return err
		},
		create: func(ctx context.Context, a *consulacl.ACL, name, description string) (string, error) {
			return made(of(a).Create(ctx, wanted("", name, description)))
		},
		read: func(ctx context.Context, a *consulacl.ACL, id string) error {
			_, err := of(a).Read(ctx, id)
			return err
		},
		update: func(ctx context.Context, a *consulacl.ACL, id string) error {
			_, err := of(a).Update(ctx, wanted(id, "changed-"+id, "changed"))
			return err
		},
		delete: func(ctx context.Context, a *consulacl.ACL, id string) error { return of(a).Delete(ctx, id) },
		list: func(ctx context.Context, a *consulacl.ACL) (ids []string, err error) {
			list, err := of(a).List(ctx)
			for _, e := range list {
				ids = append(ids, entryID(e))
			}
			return ids, err
		},
		own: func(a *consulacl.ACL, id string) { of(a).Own(id) },
	}
}

const testAuthMethod = "pods"

func authMethod(name, description string) api.ACLAuthMethod {
	return api.ACLAuthMethod{
		Name: name, Type: "jwt", Description: description, DisplayName: "Pods", MaxTokenTTL: time.Hour,
		Config: map[string]any{
			"JWTValidationPubKeys": []string{testKey}, "BoundAudiences": []string{"consul"},
			"ClaimMappings": map[string]string{"sub": "subject"},
		},
	}
}

// testKey is a public key whose private key nobody has.
const testKey = `-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEpfZWhIhP+ZO02VSv/RZFB0akQ3NQ
WWcElxYKURidOfAohQxVTzPHLSNqioLqFhJ0joJ0AUSeaERIEJRf35MxPQ==
-----END PUBLIC KEY-----`

// tokenID derives the ID of a token from its name, as a resumed create does.
func tokenID(what, name string) string {
	return uuid.NewSHA1(uuid.NameSpaceURL, []byte(what+" "+name)).String()
}

// allObjects are the five types of the ACL system. Roles and tokens link the policy "linked", and binding rules
// belong to an auth method (aclCluster.links).
func allObjects() []aclObjects {
	return []aclObjects{
		objectsOf("policy", "/v1/acl/policy/", "/v1/acl/policies",
			func(a *consulacl.ACL) *consulacl.Objects[api.ACLPolicy, *api.ACLPolicyListEntry] { return a.Policies },
			func(id, name, description string) api.ACLPolicy {
				return api.ACLPolicy{
					ID:          id,
					Name:        name,
					Description: description,
					Rules:       "key_prefix \"a/\" {\n  policy = \"write\"\n}\n",
					Datacenters: []string{"dc1"},
				}
			},
			func(p *api.ACLPolicy) string { return p.ID }, func(p *api.ACLPolicyListEntry) string { return p.ID },
			func(c *api.Client, p *api.ACLPolicy) (*api.ACLPolicy, error) {
				p, _, err := c.ACL().PolicyCreate(p, nil)
				return p, err
			},
			func(c *api.Client, p *api.ACLPolicy) (*api.ACLPolicy, error) {
				p, _, err := c.ACL().PolicyUpdate(p, nil)
				return p, err
			}),
		objectsOf("role", "/v1/acl/role/", "/v1/acl/roles",
			func(a *consulacl.ACL) *consulacl.Objects[api.ACLRole, *api.ACLRole] { return a.Roles },
			func(id, name, description string) api.ACLRole {
				return api.ACLRole{
					ID: id, Name: name, Description: description, Policies: []*api.ACLLink{{Name: "linked"}, {ID: consulacl.GlobalReadOnlyID}},
					ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "web", Datacenters: []string{"dc2", "dc1"}}, {ServiceName: "api"}},
					NodeIdentities:    []*api.ACLNodeIdentity{{NodeName: "node", Datacenter: "dc1"}},
					TemplatedPolicies: []*api.ACLTemplatedPolicy{
						{
							TemplateName:      "builtin/service",
							TemplateVariables: &api.ACLTemplatedPolicyVariables{Name: "web"},
							Datacenters:       []string{"dc2", "dc1"},
						},
						{TemplateName: "builtin/dns"},
					},
				}
			},
			func(r *api.ACLRole) string { return r.ID }, func(r *api.ACLRole) string { return r.ID },
			func(c *api.Client, r *api.ACLRole) (*api.ACLRole, error) {
				r, _, err := c.ACL().RoleCreate(r, nil)
				return r, err
			},
			func(c *api.Client, r *api.ACLRole) (*api.ACLRole, error) {
				r, _, err := c.ACL().RoleUpdate(r, nil)
				return r, err
			}),
		objectsOf("token", "/v1/acl/token/", "/v1/acl/tokens",
			func(a *consulacl.ACL) *consulacl.Objects[api.ACLToken, *api.ACLTokenListEntry] { return a.Tokens },
			func(id, name, description string) api.ACLToken {
				t := api.ACLToken{AccessorID: id, Description: description, Policies: []*api.ACLLink{{Name: "linked"}}}
				if id == "" {
					t.AccessorID, t.SecretID = tokenID("accessor", name), tokenID("secret", name)
					if description == otherContent {
						t.SecretID = uuid.NewString()
					}
				}
				return t
			},
			func(t *api.ACLToken) string { return t.AccessorID }, func(t *api.ACLTokenListEntry) string { return t.AccessorID },
			func(c *api.Client, t *api.ACLToken) (*api.ACLToken, error) {
				t, _, err := c.ACL().TokenCreate(t, nil)
				return t, err
			},
			func(c *api.Client, t *api.ACLToken) (*api.ACLToken, error) {
				t, _, err := c.ACL().TokenUpdate(t, nil)
				return t, err
			}),
		objectsOf("auth method", "/v1/acl/auth-method/", "/v1/acl/auth-methods",
			func(a *consulacl.ACL) *consulacl.Objects[api.ACLAuthMethod, *api.ACLAuthMethodListEntry] {
				return a.AuthMethods
			},
			func(id, name, description string) api.ACLAuthMethod {
				if id != "" {
					name = id
				}
				return authMethod(name, description)
			},
			func(m *api.ACLAuthMethod) string { return m.Name }, func(m *api.ACLAuthMethodListEntry) string { return m.Name },
			func(c *api.Client, m *api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
				m, _, err := c.ACL().AuthMethodCreate(m, nil)
				return m, err
			},
			func(c *api.Client, m *api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
				m, _, err := c.ACL().AuthMethodUpdate(m, nil)
				return m, err
			}),
		objectsOf("binding rule", "/v1/acl/binding-rule/", "/v1/acl/binding-rules",
			func(a *consulacl.ACL) *consulacl.Objects[api.ACLBindingRule, *api.ACLBindingRule] {
				return a.BindingRules
			},
			func(id, name, description string) api.ACLBindingRule {
				return api.ACLBindingRule{
					ID: id, AuthMethod: testAuthMethod, Description: description, Selector: "value.subject==a",
					BindType: api.BindingRuleBindTypeTemplatedPolicy,
					BindName: "builtin/service", BindVars: &api.ACLTemplatedPolicyVariables{Name: name},
				}
			},
			func(r *api.ACLBindingRule) string { return r.ID }, func(r *api.ACLBindingRule) string { return r.ID },
			func(c *api.Client, r *api.ACLBindingRule) (*api.ACLBindingRule, error) {
				r, _, err := c.ACL().BindingRuleCreate(r, nil)
				return r, err
			},
			func(c *api.Client, r *api.ACLBindingRule) (*api.ACLBindingRule, error) {
				r, _, err := c.ACL().BindingRuleUpdate(r, nil)
				return r, err
			}),
	}
}

// otherContent is the description of an object that differs from the created one.
const otherContent = "other"

// links creates what the objects of a test link.
func (c *aclCluster) links(t *testing.T) {
	t.Helper()
	c.do(t, func(client *api.Client) error {
		if _, _, err := client.ACL().PolicyCreate(&api.ACLPolicy{Name: "linked"}, nil); err != nil {
			return err
		}
		m := authMethod(testAuthMethod, "")
		_, _, err := client.ACL().AuthMethodCreate(&m, nil)
		return err
	})
}

func (c *aclCluster) mustMake(t *testing.T, o aclObjects) (id string) {
	t.Helper()
	c.do(t, func(client *api.Client) (err error) {
		id, err = o.make(client, c.name("made"))
		return err
	})
	return id
}

// raw is the status and the body of Consul's answer.
func (c *aclCluster) raw(t *testing.T, secret string, do func(*api.Client) error) string {
	t.Helper()
	err := c.Any(t.Context(), secret, do)
	var status api.StatusError
	switch {
	case err == nil:
		return "200"
	case !errors.As(err, &status):
		t.Fatal(err)
	}
	return fmt.Sprintf("%d %s", status.Code, strings.TrimSpace(status.Body))
}

// credential is a token in the Secret of the management token.
type credential struct {
	name, accessor, secret string
	// dead says that Consul does not know the token, reads and writes that the token has the right.
	dead, reads, writes bool
}

// outcome is what a caller can distinguish about an error.
func outcome(err error) string {
	var p *consul.PermissionError
	switch {
	case err == nil:
		return "done"
	case errors.Is(err, consulacl.ErrNotFound):
		return "ErrNotFound"
	case errors.Is(err, consulacl.ErrCredential):
		return "ErrCredential"
	case errors.Is(err, consulacl.ErrExists):
		return "ErrExists"
	case errors.As(err, &p):
		return "lacks " + p.Permission
	}
	return err.Error()
}

// The answers of Consul to each request, and what the code makes of them, by credential: some of these answers must
// not be believed. They are the same in both versions.
func TestAccACL_noAnswerToADeadCredentialIsBelieved(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := newACLCluster(t, version)
			c.links(t)
			expired := c.token(t, `acl = "write"`, time.Minute)
			over := time.Now().Add(time.Minute)
			deleted := c.token(t, `acl = "write"`, 0)
			c.deleteToken(t, deleted.AccessorID)
			reader, nobody := c.token(t, `acl = "read"`, 0), c.token(t, "", 0)
			credentials := []credential{
				{name: "good", secret: c.management, reads: true, writes: true},
				{name: "deleted", secret: deleted.SecretID, dead: true},
				{name: "never known", secret: uuid.NewString(), dead: true},
				{name: "reader", accessor: reader.AccessorID, secret: reader.SecretID, reads: true},
				{name: "nobody", accessor: nobody.AccessorID, secret: nobody.SecretID},
				{name: "expired", secret: expired.SecretID, dead: true},
			}
			for _, who := range credentials {
				if who.name == "expired" {
					acctest.Wait(t, "a token to expire", func(context.Context) (string, error) {
						if time.Now().Before(over) {
							return "it lives", nil
						}
						return "", nil
					})
				}
				c.store(t, who.secret)
				a := c.acl(t)
				t.Run(who.name, func(t *testing.T) {
					for _, o := range allObjects() {
						t.Run(o.kind, func(t *testing.T) { c.checkAnswers(t, a, o, who) })
					}
				})
				t.Run(who.name+" rights", func(t *testing.T) { checkRights(t, a, who) })
			}
			c.store(t, c.management)
		})
	}
}

func checkRights(t *testing.T, a *consulacl.ACL, who credential) {
	t.Helper()
	for access, has := range map[string]bool{"read": who.reads, "write": who.writes} {
		err := a.Authorize(t.Context(), access)
		want := "lacks acl:" + access
		switch {
		case who.dead:
			want = "ErrCredential"
		case has:
			want = "done"
		}
		if got := outcome(err); got != want {
			t.Errorf("Authorize %s: %s, want %s", access, got, want)
		}
		var lacks *consul.PermissionError
		if errors.As(err, &lacks) && lacks.AccessorID != who.accessor {
			t.Errorf("the error is about %s, not about %s", lacks.AccessorID, who.accessor)
		}
	}
	own, err := a.IsOwnToken(t.Context(), who.accessor)
	if who.dead != errors.Is(err, consulacl.ErrCredential) || own != (who.accessor != "") {
		t.Errorf("IsOwnToken: %v, %v", own, err)
	}
}

// checkAnswers makes every request for one type of object with one credential, without and with the code under test.
func (c *aclCluster) checkAnswers(t *testing.T, a *consulacl.ACL, o aclObjects, who credential) {
	t.Helper()
	ctx := t.Context()
	existing := c.mustMake(t, o)
	exists := func() bool { return c.raw(t, c.management, o.get(existing)) == "200" }
	for _, call := range []struct {
		name   string
		raw    func(*api.Client) error
		answer string // of Consul
		call   func() error
		want   string
	}{
		{
			"read existing", o.get(existing), who.answer("read", "200"), func() error { return o.read(ctx, a, existing) },
			who.outcome("read", "done"),
		},
		{
			"read missing", o.get(o.missing), who.answer("read", o.missingAnswer()), func() error { return o.read(ctx, a, o.missing) },
			who.outcome("read", "ErrNotFound"),
		},
		{"list", o.getList(), who.answer("read", "200"), func() error { _, err := o.list(ctx, a); return err }, who.outcome("read", "done")},
		{
			"update existing", o.put(existing), who.answer("write", "200"), func() error { return o.update(ctx, a, existing) },
			o.updateOutcome(who, "done"),
		},
		{
			"update missing", o.put(o.missing), who.answer("write", o.updateMissingAnswer()), func() error { return o.update(ctx, a, o.missing) },
			o.updateOutcome(who, "ErrNotFound"),
		},
		{
			"delete missing", o.del(o.missing), who.deleteAnswer(o.kind), func() error { return o.delete(ctx, a, o.missing) },
			who.outcome("write", "done"),
		},
		{
			"delete existing", o.del(existing), who.deleteAnswer(o.kind), func() error { return o.delete(ctx, a, existing) },
			who.outcome("write", "done"),
		},
	} {
		if call.name != "delete existing" || !who.writes {
			if got := c.raw(t, who.secret, call.raw); got != call.answer {
				t.Errorf("%s: Consul answers %q, not %q", call.name, got, call.answer)
			}
		}
		if call.name == "update missing" && o.kind == "auth method" && who.writes {
			c.do(t, o.del(o.missing)) // Consul has created it
		}
		if got := outcome(call.call()); got != call.want {
			t.Errorf("%s: %s, want %s", call.name, got, call.want)
		}
	}
	if exists() == who.writes {
		t.Errorf("after the delete, the %s exists: %v", o.kind, !who.writes)
	}
}

// answer is Consul's answer to a credential that needs a right, "read" or "write". then is the answer if the
// credential has it. Only a delete differs.
func (c credential) answer(right, then string) string {
	switch {
	case c.dead:
		return "403 ACL not found"
	case right == "read" && !c.reads, right == "write" && !c.writes:
		return "403 Permission denied: token with AccessorID '" + c.accessor + "' lacks permission 'acl:" + right + "'"
	}
	return then
}

// deleteAnswer is Consul's answer to a delete that is not carried out. To a dead credential, it is that the object
// does not exist, whether it does or not.
func (c credential) deleteAnswer(kind string) string {
	if c.dead {
		return "404 Cannot find " + kind + " to delete"
	}
	return c.answer("write", "404 Cannot find "+kind+" to delete")
}

// outcome is what the code under test makes of the answer.
func (c credential) outcome(right, then string) string {
	switch {
	case c.dead:
		return "ErrCredential"
	case right == "read" && !c.reads, right == "write" && !c.writes:
		return "lacks acl:" + right
	}
	return then
}

// updateOutcome is the outcome of an update. Auth methods are read before.
func (o aclObjects) updateOutcome(c credential, then string) string {
	if o.kind == "auth method" && (!c.reads || then == "ErrNotFound") {
		return c.outcome("read", then)
	}
	return c.outcome("write", then)
}

// missingAnswer is the answer to a good credential about an object that does not exist.
func (o aclObjects) missingAnswer() string {
	if o.kind == "token" {
		return "403 token does not exist: ACL not found"
	}
	return "404 Requested " + o.kind + " does not exist: ACL not found"
}

// updateMissingAnswer is the same for an update.
func (o aclObjects) updateMissingAnswer() string {
	switch o.kind {
	case "token":
		return fmt.Sprintf("500 Cannot find token %q", o.missing)
	case "auth method":
		return "200" // an update creates it
	}
	return "500 cannot find " + o.kind + " " + o.missing
}

func (o aclObjects) get(id string) func(*api.Client) error {
	return func(client *api.Client) error {
		var out any
		_, err := client.Raw().Query(o.path+id, &out, &api.QueryOptions{RequireConsistent: true})
		return err
	}
}

func (o aclObjects) getList() func(*api.Client) error {
	return func(client *api.Client) error {
		var out any
		_, err := client.Raw().Query(o.listPath, &out, nil)
		return err
	}
}

func (o aclObjects) put(id string) func(*api.Client) error {
	return func(client *api.Client) error { return o.change(client, id) }
}

func (o aclObjects) del(id string) func(*api.Client) error {
	return func(client *api.Client) error {
		_, err := client.Raw().Delete(o.path+id, nil)
		return err
	}
}

// The token in the Secret may be replaced while Terraform runs, for example by a reset.
func TestAccACL_aReplacedCredentialIsPickedUp(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion)
	c.links(t)
	ctx := t.Context()
	for _, o := range allObjects() {
		for name, call := range map[string]func(*consulacl.ACL, string) error{
			"read":         func(a *consulacl.ACL, id string) error { return o.read(ctx, a, id) },
			"list":         func(a *consulacl.ACL, _ string) error { _, err := o.list(ctx, a); return err },
			"update":       func(a *consulacl.ACL, id string) error { return o.update(ctx, a, id) },
			"delete":       func(a *consulacl.ACL, id string) error { return o.delete(ctx, a, id) },
			"create":       func(a *consulacl.ACL, _ string) error { _, err := o.create(ctx, a, c.name("created"), ""); return err },
			"authorize":    func(a *consulacl.ACL, _ string) error { return a.Authorize(ctx, "write") },
			"is own token": func(a *consulacl.ACL, _ string) error { _, err := a.IsOwnToken(ctx, ""); return err },
		} {
			t.Run(o.kind+" "+name, func(t *testing.T) {
				id := c.mustMake(t, o)
				first := c.token(t, `acl = "write"`, 0)
				c.store(t, first.SecretID)
				a := c.acl(t)
				if _, err := a.IsOwnToken(ctx, ""); err != nil {
					t.Fatal(err)
				}
				c.deleteToken(t, first.AccessorID)
				if name != "list" { // its failure would be cached
					if err := call(a, id); !errors.Is(err, consulacl.ErrCredential) {
						t.Errorf("with the deleted token: %v, want ErrCredential", err)
					}
				}
				c.store(t, c.management)
				if err := call(a, id); err != nil {
					t.Errorf("with the token that replaced it: %v", err)
				}
				if gone := c.raw(t, c.management, o.get(id)) != "200"; gone != (name == "delete") {
					t.Errorf("the %s is gone: %v", o.kind, gone)
				}
			})
		}
	}
}

func TestAccACL_aReaderNeverSeesASecretID(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion)
	token, reader := c.token(t, "", 0), c.token(t, `acl = "read"`, 0)
	for secret, want := range map[string]string{c.management: token.SecretID, reader.SecretID: consulacl.HiddenSecretID} {
		c.store(t, secret)
		a := c.acl(t)
		read, err := a.Tokens.Read(t.Context(), token.AccessorID)
		if err != nil || read.SecretID != want {
			t.Errorf("read: %v, hidden: %v", err, err == nil && read.SecretID == consulacl.HiddenSecretID)
		}
		listed, err := a.Tokens.Get(t.Context(), token.AccessorID)
		if err != nil || listed.SecretID != want {
			t.Errorf("list: %v, hidden: %v", err, err == nil && listed.SecretID == consulacl.HiddenSecretID)
		}
	}
}

// If the answer to a create was lost, the same process or the next one finds the created object again. An object of
// somebody else is not adopted.
func TestAccACL_aCreateFindsAgainWhatItMade(t *testing.T) {
	for _, version := range versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			c := newACLCluster(t, version)
			c.links(t)
			proxy := acctest.NewKubeProxy(t)
			for _, o := range allObjects() {
				t.Run(o.kind, func(t *testing.T) {
					t.Run("made by an earlier run", func(t *testing.T) {
						name := c.name("made")
						c.checkFoundAgain(t, o, name, c.mustMakeNamed(t, o, name))
					})
					t.Run("the answer is lost", func(t *testing.T) { c.checkLostAnswer(t, o, proxy) })
				})
			}
		})
	}
}

func (c *aclCluster) mustMakeNamed(t *testing.T, o aclObjects, name string) (id string) {
	t.Helper()
	c.do(t, func(client *api.Client) (err error) {
		id, err = o.make(client, name)
		return err
	})
	return id
}

// checkFoundAgain creates an object that exists.
func (c *aclCluster) checkFoundAgain(t *testing.T, o aclObjects, name, id string) {
	t.Helper()
	ctx := t.Context()
	ids := func() []string {
		list, err := o.list(ctx, c.acl(t))
		if err != nil {
			t.Fatal(err)
		}
		return list
	}
	before := len(ids())
	if found, err := o.create(ctx, c.acl(t), name, "as it was"); err != nil || found != id {
		t.Errorf("created again: %s, %v; want %s", found, err, id)
	}
	owning := c.acl(t)
	o.own(owning, id)
	for reason, try := range map[string]struct {
		a           *consulacl.ACL
		description string
	}{"other content": {c.acl(t), otherContent}, "somebody else's": {owning, "as it was"}} {
		made, err := o.create(ctx, try.a, name, try.description)
		// Binding rules only differ in their content.
		if want := map[bool]string{true: "done", false: "ErrExists"}[o.kind == "binding rule"]; outcome(err) != want || made == id {
			t.Errorf("%s: %s, %v; want %s", reason, made, err, want)
		}
		if err == nil {
			if err := o.delete(ctx, c.acl(t), made); err != nil {
				t.Error(err)
			}
		}
	}
	if after := len(ids()); after != before {
		t.Errorf("there were %d, and now there are %d", before, after)
	}
}

// checkLostAnswer breaks the connection after Consul has carried out a create, and before its answer arrives.
func (c *aclCluster) checkLostAnswer(t *testing.T, o aclObjects, proxy *acctest.KubeProxy) {
	t.Helper()
	ctx := t.Context()
	through := consulacl.Of(consul.NewConnector(proxy.Kube(t)).Cluster(c.Namespace, c.Name))
	if _, err := o.list(ctx, through); err != nil { // opens the connection
		t.Fatal(err)
	}
	count := func() int {
		list, err := o.list(ctx, c.acl(t))
		if err != nil {
			t.Fatal(err)
		}
		return len(list)
	}
	before := count()
	proxy.SetLatency(4 * time.Second)
	var id string
	var err error
	var wg sync.WaitGroup
	wg.Go(func() { id, err = o.create(ctx, through, c.name("lost"), "") })
	acctest.Wait(t, "the create to be carried out", func(context.Context) (string, error) {
		if count() == before {
			return "it is on its way", nil
		}
		return "", nil
	})
	proxy.Cut()
	proxy.SetLatency(0)
	wg.Wait()
	if err != nil || count() != before+1 || c.raw(t, c.management, o.get(id)) != "200" {
		t.Errorf("created: %q, %v; there were %d, and now there are %d", id, err, before, count())
	}
}

// With request limits, a server answers 429 to reads, and 503 to writes, until it has capacity again.
func TestAccACL_requestLimitsOnlyMakeItSlow(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion, func(s *server.Spec) {
		// Bursts of ten times the limit are admitted, and everything for a moment from time to time
		// (agent/consul/rate and multilimiter of Consul).
		s.ExtraConfig = `{"limits": {"request_limits": {"mode": "enforcing", "read_rate": 8, "write_rate": 4}}}`
	})
	c.writeThrough(t, func() {
		refused := map[int]int{}
		var mu sync.Mutex
		acctest.Wait(t, "the limits to hold", func(ctx context.Context) (string, error) {
			// One connection for all calls: requests to Kubernetes are slower than the limits.
			err := c.Any(ctx, c.management, func(client *api.Client) error {
				each(60, func(i int) {
					var err error
					if i%3 == 0 {
						_, _, err = client.ACL().PolicyCreate(&api.ACLPolicy{Name: "hasty-" + uuid.NewString()}, nil)
					} else {
						_, _, err = client.ACL().PolicyList(nil)
					}
					var status api.StatusError
					if errors.As(err, &status) {
						mu.Lock()
						defer mu.Unlock()
						refused[status.Code]++
					}
				})
				return nil
			})
			if err != nil || refused[http.StatusTooManyRequests] < 50 || refused[http.StatusServiceUnavailable] < 25 {
				return fmt.Sprintf("refused so far, by status: %v", refused), err
			}
			return "", nil
		})
		t.Logf("refused without patience, by status: %v", refused)
	})
}

// each calls do for 0 to n-1 at the same time.
func each(n int, do func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { do(i) })
	}
	wg.Wait()
}

// Writes during a restart of the only server wait for it.
func TestAccACL_aRestartIsWaitedOut(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion)
	pods := acctest.Kube(t).CoreV1().Pods(c.Namespace)
	name := server.PodName(c.Name, 0)
	c.writeThrough(t, func() {
		old, err := pods.Get(t.Context(), name, metav1.GetOptions{})
		if err == nil {
			err = pods.Delete(t.Context(), name, metav1.DeleteOptions{})
		}
		if err != nil {
			t.Fatal(err)
		}
		acctest.Wait(t, "another pod", func(ctx context.Context) (string, error) {
			now, err := pods.Get(ctx, name, metav1.GetOptions{})
			if found, err := kube.Found(err); !found || err != nil {
				return "there is none", err
			}
			if now.UID == old.UID {
				return "the old one stops", nil
			}
			return "", nil
		})
	})
}

// Nothing fails, or happens twice, while the leader of three servers dies.
func TestAccACL_theDeathOfALeaderIsWaitedOut(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion, func(s *server.Spec) { s.Replicas = 3 })
	c.writeThrough(t, func() {
		pods, err := c.Pods(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		leader, err := consul.LeaderPod(t.Context(), c.Cluster, pods)
		if err != nil {
			t.Fatal(err)
		}
		acctest.Crash(t, c.Namespace, leader.Name)
	})
}

// writeThrough creates, changes, reads, and deletes policies and tokens during and after an event.
func (c *aclCluster) writeThrough(t *testing.T, happens func()) {
	t.Helper()
	a := c.acl(t)
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // the default of the resources
	defer cancel()
	var mu sync.Mutex
	rounds, slowest := 0, time.Duration(0)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				start := time.Now()
				if err := writeRound(ctx, a, fmt.Sprintf("worker-%d-%d", worker, i)); err != nil {
					t.Errorf("round %d of worker %d, after %s: %v", i, worker, time.Since(start).Round(time.Millisecond), err)
					return
				}
				mu.Lock()
				rounds++
				slowest = max(slowest, time.Since(start))
				mu.Unlock()
			}
		})
	}
	done := func() int {
		mu.Lock()
		defer mu.Unlock()
		return rounds
	}
	more := func(n int) {
		t.Helper()
		least := done() + n
		acctest.Wait(t, "more rounds", func(context.Context) (string, error) {
			if t.Failed() {
				return "", errors.New("a round failed")
			}
			if got := done(); got < least {
				return fmt.Sprintf("%d of %d", got, least), nil
			}
			return "", nil
		})
	}
	more(16)
	happens()
	more(32)
	close(stop)
	wg.Wait()
	t.Logf("%d rounds, the slowest took %s", rounds, slowest.Round(time.Millisecond))
	list, err := c.acl(t).Policies.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range list {
		if strings.HasPrefix(p.Name, "worker-") {
			t.Errorf("%s still exists", p.Name)
		}
	}
}

func writeRound(ctx context.Context, a *consulacl.ACL, name string) error {
	p, err := a.Policies.Create(ctx, api.ACLPolicy{Name: name, Description: "made"})
	if err != nil {
		return err
	}
	token, err := a.Tokens.Create(
		ctx,
		api.ACLToken{AccessorID: uuid.NewString(), SecretID: uuid.NewString(), Policies: []*api.ACLLink{{ID: p.ID}}},
	)
	if err != nil {
		return err
	}
	if p, err = a.Policies.Update(ctx, api.ACLPolicy{ID: p.ID, Name: name, Description: "changed"}); err != nil {
		return err
	}
	if p.Description != "changed" {
		return fmt.Errorf("the change of %s is missing", name)
	}
	if err := a.Tokens.Delete(ctx, token.AccessorID); err != nil {
		return err
	}
	return a.Policies.Delete(ctx, p.ID)
}

// If the cluster is gone, so are its objects, even if the Secret still exists.
func TestAccACL_noCluster(t *testing.T) {
	t.Parallel()
	c := newACLCluster(t, acctest.ConsulVersion)
	k := acctest.Kube(t)
	if err := k.AppsV1().StatefulSets(c.Namespace).Delete(t.Context(), server.StatefulSetName(c.Name), metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	acctest.Wait(t, "the server to stop", func(ctx context.Context) (string, error) {
		pods, err := c.Pods(ctx)
		if err != nil || len(pods) > 0 {
			return "it runs", err
		}
		return "", nil
	})
	if _, err := c.acl(t).Policies.List(t.Context()); !errors.Is(err, consulacl.ErrNoCluster) {
		t.Errorf("with the Secret: %v, want ErrNoCluster", err)
	}
	_, ref, err := consulacl.ManagementToken(t.Context(), c.Cluster)
	if err == nil {
		err = k.CoreV1().Secrets(c.Namespace).Delete(t.Context(), ref.Name, metav1.DeleteOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.acl(t).Policies.List(t.Context()); !errors.Is(err, consulacl.ErrNoCluster) {
		t.Errorf("without the Secret: %v, want ErrNoCluster", err)
	}
	if err := c.acl(t).Policies.Delete(t.Context(), uuid.NewString()); !errors.Is(err, consulacl.ErrNoCluster) {
		t.Errorf("a delete: %v, want ErrNoCluster", err)
	}
}
