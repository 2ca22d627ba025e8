package consulacl

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/aclrules"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
)

// GlobalManagementID is the ID of the built-in policy global-management, and
// GlobalReadOnlyID that of builtin/global-read-only (Consul 1.16 and later).
// AnonymousAccessorID is the accessor ID of the anonymous token. They are the
// same in every cluster (agent/structs/acl.go of Consul).
const (
	GlobalManagementID  = "00000000-0000-0000-0000-000000000001"
	GlobalReadOnlyID    = "00000000-0000-0000-0000-000000000002"
	AnonymousAccessorID = "00000000-0000-0000-0000-000000000002"
)

func newACL(c *consul.Cluster) *ACL {
	a := &ACL{cluster: c, rights: map[string]error{}, Deliveries: newDeliveries(c)}
	a.Tokens = tokens(a)
	a.Roles = roles(a)
	a.Policies = policies(a)
	a.BindingRules = bindingRules(a)
	a.AuthMethods = authMethods(a)
	return a
}

func policies(a *ACL) *Objects[api.ACLPolicy, *api.ACLPolicyListEntry] {
	return &Objects[api.ACLPolicy, *api.ACLPolicyListEntry]{
		acl: a, kind: "policy", owned: map[string]bool{},
		linkedBy: []interface{ forget() }{a.Roles, a.Tokens},
		id:       func(p api.ACLPolicy) string { return p.ID },
		entryID:  func(p *api.ACLPolicyListEntry) string { return p.ID },
		entry: func(p api.ACLPolicy) *api.ACLPolicyListEntry {
			return &api.ACLPolicyListEntry{
				ID:          p.ID,
				Name:        p.Name,
				Description: p.Description,
				Datacenters: p.Datacenters,
				Hash:        p.Hash,
				CreateIndex: p.CreateIndex,
				ModifyIndex: p.ModifyIndex,
			}
		},
		same: SamePolicy,
		find: func(ctx context.Context, client *api.Client, wanted api.ACLPolicy) (*api.ACLPolicy, error) {
			p, _, err := client.ACL().PolicyReadByName(wanted.Name, consistent(ctx))
			return p, err
		},
		list: func(ctx context.Context, client *api.Client) ([]*api.ACLPolicyListEntry, error) {
			l, _, err := client.ACL().PolicyList(consistent(ctx))
			return l, err
		},
		read: func(ctx context.Context, client *api.Client, id string) (*api.ACLPolicy, error) {
			p, _, err := client.ACL().PolicyRead(id, consistent(ctx))
			return p, err
		},
		create: func(ctx context.Context, client *api.Client, p *api.ACLPolicy) (*api.ACLPolicy, error) {
			p, _, err := client.ACL().PolicyCreate(p, write(ctx))
			return p, err
		},
		update: func(ctx context.Context, client *api.Client, p *api.ACLPolicy) (*api.ACLPolicy, error) {
			p, _, err := client.ACL().PolicyUpdate(p, write(ctx))
			return p, err
		},
		remove: func(ctx context.Context, client *api.Client, id string) error {
			// PolicyDelete of the library loses the text of a refusal.
			_, err := client.Raw().Delete("/v1/acl/policy/"+url.PathEscape(id), (&api.QueryOptions{}).WithContext(ctx))
			return err
		},
	}
}

func roles(a *ACL) *Objects[api.ACLRole, *api.ACLRole] {
	return &Objects[api.ACLRole, *api.ACLRole]{
		acl: a, kind: "role", owned: map[string]bool{},
		linkedBy: []interface{ forget() }{a.Tokens},
		id:       func(r api.ACLRole) string { return r.ID },
		entryID:  func(r *api.ACLRole) string { return r.ID },
		entry:    func(r api.ACLRole) *api.ACLRole { return &r },
		same:     SameRole,
		find: func(ctx context.Context, client *api.Client, wanted api.ACLRole) (*api.ACLRole, error) {
			r, _, err := client.ACL().RoleReadByName(wanted.Name, consistent(ctx))
			return r, err
		},
		list: func(ctx context.Context, client *api.Client) ([]*api.ACLRole, error) {
			l, _, err := client.ACL().RoleList(consistent(ctx))
			return l, err
		},
		read: func(ctx context.Context, client *api.Client, id string) (*api.ACLRole, error) {
			r, _, err := client.ACL().RoleRead(id, consistent(ctx))
			return r, err
		},
		create: func(ctx context.Context, client *api.Client, r *api.ACLRole) (*api.ACLRole, error) {
			r, _, err := client.ACL().RoleCreate(r, write(ctx))
			return r, err
		},
		update: func(ctx context.Context, client *api.Client, r *api.ACLRole) (*api.ACLRole, error) {
			r, _, err := client.ACL().RoleUpdate(r, write(ctx))
			return r, err
		},
		remove: func(ctx context.Context, client *api.Client, id string) error {
			_, err := client.ACL().RoleDelete(id, write(ctx))
			return err
		},
	}
}

// tokens are identified by their accessor IDs. The caller of a create chooses the accessor ID and the secret
// ID, which makes a repeated create harmless.
func tokens(a *ACL) *Objects[api.ACLToken, *api.ACLTokenListEntry] {
	return &Objects[api.ACLToken, *api.ACLTokenListEntry]{
		acl: a, kind: "token", owned: map[string]bool{},
		id:      func(t api.ACLToken) string { return t.AccessorID },
		entryID: func(t *api.ACLTokenListEntry) string { return t.AccessorID },
		entry: func(t api.ACLToken) *api.ACLTokenListEntry {
			return &api.ACLTokenListEntry{
				AccessorID: t.AccessorID, SecretID: t.SecretID, Description: t.Description, Name: t.Name,
				Policies: t.Policies, Roles: t.Roles, ServiceIdentities: t.ServiceIdentities, NodeIdentities: t.NodeIdentities,
				TemplatedPolicies: t.TemplatedPolicies,
				Local:             t.Local, AuthMethod: t.AuthMethod, ExpirationTime: t.ExpirationTime, CreateTime: t.CreateTime,
				Hash: t.Hash, CreateIndex: t.CreateIndex, ModifyIndex: t.ModifyIndex,
			}
		},
		same: func(a, b api.ACLToken) bool { return a.AccessorID == b.AccessorID && a.SecretID == b.SecretID },
		find: func(ctx context.Context, client *api.Client, wanted api.ACLToken) (*api.ACLToken, error) {
			t, _, err := client.ACL().TokenRead(wanted.AccessorID, consistent(ctx))
			if consul.IsTokenMissing(err) { // then the secret ID is in use
				return nil, nil //nolint:nilnil // as documented
			}
			return t, err
		},
		list: func(ctx context.Context, client *api.Client) ([]*api.ACLTokenListEntry, error) {
			l, _, err := client.ACL().TokenList(consistent(ctx))
			return l, err
		},
		read: func(ctx context.Context, client *api.Client, id string) (*api.ACLToken, error) {
			t, _, err := client.ACL().TokenRead(id, consistent(ctx))
			return t, err
		},
		create: func(ctx context.Context, client *api.Client, t *api.ACLToken) (*api.ACLToken, error) {
			t, _, err := client.ACL().TokenCreate(t, write(ctx))
			return t, err
		},
		update: func(ctx context.Context, client *api.Client, t *api.ACLToken) (*api.ACLToken, error) {
			unchanged := *t // Consul keeps the expiry, and refuses another one
			unchanged.ExpirationTTL, unchanged.ExpirationTime = 0, nil
			t, _, err := client.ACL().TokenUpdate(&unchanged, write(ctx))
			return t, err
		},
		remove: func(ctx context.Context, client *api.Client, id string) error {
			_, err := client.ACL().TokenDelete(id, write(ctx))
			return err
		},
	}
}

// authMethods have no ID except their name. For Consul, a create and a change are the same request.
func authMethods(a *ACL) *Objects[api.ACLAuthMethod, *api.ACLAuthMethodListEntry] {
	return &Objects[api.ACLAuthMethod, *api.ACLAuthMethodListEntry]{
		acl: a, kind: "auth method", owned: map[string]bool{},
		linkedBy:  []interface{ forget() }{a.BindingRules, a.Tokens}, // Consul deletes them with it
		findFirst: true,
		id:        func(m api.ACLAuthMethod) string { return m.Name },
		entryID:   func(m *api.ACLAuthMethodListEntry) string { return m.Name },
		entry: func(m api.ACLAuthMethod) *api.ACLAuthMethodListEntry {
			return &api.ACLAuthMethodListEntry{
				Name:          m.Name,
				Type:          m.Type,
				DisplayName:   m.DisplayName,
				Description:   m.Description,
				MaxTokenTTL:   m.MaxTokenTTL,
				TokenLocality: m.TokenLocality,
				CreateIndex:   m.CreateIndex,
				ModifyIndex:   m.ModifyIndex,
			}
		},
		same: SameAuthMethod,
		find: func(ctx context.Context, client *api.Client, wanted api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
			m, _, err := client.ACL().AuthMethodRead(wanted.Name, consistent(ctx))
			return m, err
		},
		list: func(ctx context.Context, client *api.Client) ([]*api.ACLAuthMethodListEntry, error) {
			l, _, err := client.ACL().AuthMethodList(consistent(ctx))
			return l, err
		},
		read: func(ctx context.Context, client *api.Client, name string) (*api.ACLAuthMethod, error) {
			m, _, err := client.ACL().AuthMethodRead(name, consistent(ctx))
			return m, err
		},
		create: func(ctx context.Context, client *api.Client, m *api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
			m, _, err := client.ACL().AuthMethodCreate(m, write(ctx))
			return m, err
		},
		update: func(ctx context.Context, client *api.Client, m *api.ACLAuthMethod) (*api.ACLAuthMethod, error) {
			existing, _, err := client.ACL().AuthMethodRead(m.Name, consistent(ctx))
			if err == nil && existing == nil {
				err = consul.UpdateOfMissingError("auth method " + m.Name)
			}
			if err != nil {
				return nil, err
			}
			m, _, err = client.ACL().AuthMethodUpdate(m, write(ctx))
			return m, err
		},
		remove: func(ctx context.Context, client *api.Client, name string) error {
			_, err := client.ACL().AuthMethodDelete(name, write(ctx))
			return err
		},
	}
}

// bindingRules have no names: only their content shows that one exists.
func bindingRules(a *ACL) *Objects[api.ACLBindingRule, *api.ACLBindingRule] {
	var o *Objects[api.ACLBindingRule, *api.ACLBindingRule]
	o = &Objects[api.ACLBindingRule, *api.ACLBindingRule]{
		acl: a, kind: "binding rule", owned: map[string]bool{},
		id:      func(r api.ACLBindingRule) string { return r.ID },
		entryID: func(r *api.ACLBindingRule) string { return r.ID },
		entry:   func(r api.ACLBindingRule) *api.ACLBindingRule { return &r },
		same:    SameBindingRule, findFirst: true,
		find: func(ctx context.Context, client *api.Client, wanted api.ACLBindingRule) (*api.ACLBindingRule, error) {
			l, _, err := client.ACL().BindingRuleList(wanted.AuthMethod, consistent(ctx))
			for _, r := range l {
				if SameBindingRule(wanted, *r) && !o.isOwned(r.ID) {
					return r, err
				}
			}
			return nil, err
		},
		list: func(ctx context.Context, client *api.Client) ([]*api.ACLBindingRule, error) {
			l, _, err := client.ACL().BindingRuleList("", consistent(ctx))
			return l, err
		},
		read: func(ctx context.Context, client *api.Client, id string) (*api.ACLBindingRule, error) {
			r, _, err := client.ACL().BindingRuleRead(id, consistent(ctx))
			return r, err
		},
		create: func(ctx context.Context, client *api.Client, r *api.ACLBindingRule) (*api.ACLBindingRule, error) {
			r, _, err := client.ACL().BindingRuleCreate(r, write(ctx))
			return r, err
		},
		update: func(ctx context.Context, client *api.Client, r *api.ACLBindingRule) (*api.ACLBindingRule, error) {
			r, _, err := client.ACL().BindingRuleUpdate(r, write(ctx))
			return r, err
		},
		remove: func(ctx context.Context, client *api.Client, id string) error {
			_, err := client.ACL().BindingRuleDelete(id, write(ctx))
			return err
		},
	}
	return o
}

// SamePolicy reports whether two policies have the same content.
func SamePolicy(a, b api.ACLPolicy) bool {
	x, errX := aclrules.ParseRules(a.Rules)
	y, errY := aclrules.ParseRules(b.Rules)
	sameRules := a.Rules == b.Rules || (errX == nil && errY == nil && x.Equal(y))
	return sameRules && a.Name == b.Name && a.Description == b.Description && sameSet(a.Datacenters, b.Datacenters)
}

// SameRole reports whether two roles have the same content. One that links a
// policy by its name alone, and one that links it by its ID alone, differ.
func SameRole(a, b api.ACLRole) bool {
	return a.Name == b.Name && a.Description == b.Description &&
		linksAll(a.Policies, b.Policies) && linksAll(b.Policies, a.Policies) &&
		sameSet(keys(a.ServiceIdentities, serviceKey), keys(b.ServiceIdentities, serviceKey)) &&
		sameSet(keys(a.NodeIdentities, nodeKey), keys(b.NodeIdentities, nodeKey)) &&
		sameSet(keys(a.TemplatedPolicies, templateKey), keys(b.TemplatedPolicies, templateKey))
}

// linksAll reports whether others name everything that some links name.
func linksAll(links, by []*api.ACLLink) bool {
	for _, l := range links {
		if !slices.ContainsFunc(by, func(o *api.ACLLink) bool {
			return (l.ID != "" && l.ID == o.ID) || (l.Name != "" && l.Name == o.Name)
		}) {
			return false
		}
	}
	return true
}

// SameAuthMethod reports whether an auth method has the wanted content. Consul fills in the format of token
// names.
func SameAuthMethod(wanted, existing api.ACLAuthMethod) bool {
	return wanted.Name == existing.Name && wanted.Type == existing.Type &&
		wanted.DisplayName == existing.DisplayName && wanted.Description == existing.Description &&
		wanted.MaxTokenTTL == existing.MaxTokenTTL &&
		cmp.Or(wanted.TokenLocality, "local") == cmp.Or(existing.TokenLocality, "local") &&
		(wanted.TokenNameFormat == "" || wanted.TokenNameFormat == existing.TokenNameFormat) &&
		sameJSON(wanted.Config, existing.Config)
}

// SameBindingRule reports whether two binding rules have the same content.
func SameBindingRule(a, b api.ACLBindingRule) bool {
	vars := func(r api.ACLBindingRule) (v api.ACLTemplatedPolicyVariables) {
		if r.BindVars != nil {
			v = *r.BindVars
		}
		return v
	}
	return a.AuthMethod == b.AuthMethod && a.Description == b.Description && a.Selector == b.Selector &&
		a.BindType == b.BindType && a.BindName == b.BindName && vars(a) == vars(b)
}

// sameJSON compares what would be sent to Consul: one of the two was read from Consul.
func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y) // keys are sorted
}

// The content of an identity in one text, whatever the order of its datacenters:
// Consul sorts them.

func serviceKey(i *api.ACLServiceIdentity) string {
	return fmt.Sprintf("%q %q", i.ServiceName, slices.Sorted(slices.Values(i.Datacenters)))
}

func nodeKey(i *api.ACLNodeIdentity) string { return fmt.Sprintf("%q %q", i.NodeName, i.Datacenter) }

func templateKey(p *api.ACLTemplatedPolicy) string {
	name := ""
	if p.TemplateVariables != nil {
		name = p.TemplateVariables.Name
	}
	return fmt.Sprintf("%q %q %q", p.TemplateName, name, slices.Sorted(slices.Values(p.Datacenters)))
}

func keys[T any](values []*T, key func(*T) string) []string {
	var out []string
	for _, v := range values {
		out = append(out, key(v))
	}
	return out
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return len(a) == 0 && len(b) == 0 || reflect.DeepEqual(slices.Compact(a), slices.Compact(b))
}

// IsBuiltInPolicy reports whether a policy is built into Consul, so that it can be neither created nor deleted.
func IsBuiltInPolicy(id, name string) bool {
	return id == GlobalManagementID || id == GlobalReadOnlyID || name == "global-management" || strings.HasPrefix(name, "builtin/")
}
