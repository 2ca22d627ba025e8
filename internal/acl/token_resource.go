package acl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/hashicorp/consul/api"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/path"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/tfsdk"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/attr"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

var (
	_ objectResource                      = &TokenResource{}
	_ resource.ResourceWithValidateConfig = &TokenResource{}
)

// TokenResource is consul_k8s_token.
type TokenResource struct {
	envelope[tokenModel, *tokenModel]
}

// NewTokenResource returns the resource consul_k8s_token.
func NewTokenResource() resource.Resource {
	r := &TokenResource{}
	r.object, r.own = object{kind: "token", typeName: "consul_k8s_token", importKey: "accessor ID"}, r
	return r
}

// Metadata implements resource.Resource. A rotation changes the identity.
func (r *TokenResource) Metadata(ctx context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	r.object.Metadata(ctx, req, resp)
	resp.ResourceBehavior.MutableIdentity = true
}

// isReplaced leaves replacements to plan, because both tokens claim the Secrets.
func (*TokenResource) isReplaced(_, _ tokenModel) bool { return false }

func (r *TokenResource) plan(ctx context.Context, p *planning[tokenModel]) (done bool) {
	plan, state := &p.plan, p.state
	targets, known := plan.targets(ctx, p.diags)
	claim := func() { p.replaces = r.claimTargets(*plan, targets, state.ID, p.req.Config, p.diags) }
	if p.exists && (!plan.Cluster.Equal(state.Cluster) || (!plan.AccessorID.IsUnknown() && !plan.AccessorID.Equal(state.AccessorID))) {
		claim()
		return true // it is replaced, and planned again as a new one
	}
	plan.ExpirationTime = p.config.ExpirationTime
	now, before := time.Now(), state
	if p.exists && state.SecretIDVersion.IsNull() && r.hasChosen(ctx, state, p.config) {
		before.SecretIDVersion = plan.SecretIDVersion // the apply only needs to record it
	}
	due, reason := rotationDue(*plan, before, saved[bool](ctx, p.req.Private, expiryKey, p.diags), now)
	switch {
	case !p.exists:
		plan.ExpirationTime = plannedExpiry(*plan)
	case reason == "":
		plan.ID, plan.AccessorID, plan.CreateTime, plan.ExpirationTime = state.ID, state.AccessorID, state.CreateTime, state.ExpirationTime
	case !p.config.AccessorID.IsNull():
		p.resp.RequiresReplace = append(p.resp.RequiresReplace, path.Root(due)) // two tokens cannot share an accessor ID
		claim()
		return true
	default:
		plan.ID, plan.AccessorID, plan.CreateTime = types.StringUnknown(), types.StringUnknown(), types.StringUnknown()
		plan.ExpirationTime = plannedExpiry(*plan)
		p.diags.AddWarning("The token is rotated", fmt.Sprintf(
			"The token %s of %s is replaced by a new token because %s. The new token is delivered first, and the old token is revoked %s later.",
			state.AccessorID.ValueString(), state.Cluster.ValueString(), reason, plan.gracePeriod()))
	}
	if p.exists && reason == "" {
		warnOfRecordedTrigger(*plan, state, p.diags)
	} else { // a token is created
		planExpiry(p.config, now, p.diags)
	}
	plan.DeliveredTo = plannedDelivery(ctx, state, p.exists, targets, known, p.diags)
	p.set(ctx)
	if p.exists {
		rewritten := *plan
		rewritten.keepTargets(ctx, state, p.diags)
		rewritten.Policies = r.keepLinks(ctx, plan.Cluster, policyLinks(plan.Policies, state.Policies))
		rewritten.Roles = r.keepLinks(ctx, plan.Cluster, roleLinks(plan.Roles, state.Roles))
		p.keep(ctx, rewritten)
	}
	claim()
	return p.diags.HasError()
}

func (r *TokenResource) check(ctx context.Context, a *consulacl.ACL, p *planning[tokenModel]) {
	plan, state := p.plan, p.state
	r.checkChanged(ctx, a, plan.Cluster, p.req.Private, p.diags,
		policyLinks(plan.Policies, state.Policies), roleLinks(plan.Roles, state.Roles))
	if p.replaces != "" {
		state.AccessorID = types.StringValue(p.replaces) // the replaced token holds its targets
	}
	targets, _ := plan.targets(ctx, p.diags)
	r.checkTargets(ctx, a, targets, state, p.diags)
	switch existing, err := a.Tokens.Get(ctx, plan.AccessorID.ValueString()); {
	case p.exists || plan.AccessorID.IsUnknown() || err != nil || existing.AccessorID == p.replaces:
	case plan.isAnonymous():
		warnOfLostRights(plan, existing, r.importCommand(plan.Cluster.ValueString(), "anonymous"), p.diags)
	default:
		if existing.Description != consulacl.Unfinished && !r.leaves("token", plan.Cluster, existing.AccessorID) {
			p.diags.Append(attr.Errorf(path.Root("accessor_id"), "The token already exists",
				"import it: %s", r.importCommand(plan.Cluster.ValueString(), plan.AccessorID.ValueString())))
		}
	}
}

// planDestroy warns about nothing: what uses a token does not name it.
func (*TokenResource) planDestroy(context.Context, tokenModel, *diag.Diagnostics) {}

// planExpiry refuses an expiration time that no new token can have. A time that has passed is only a warning: the token with
// this time has expired, which must not block the rest of the plan. The apply does not create the token.
func planExpiry(config tokenModel, now time.Time, diags *diag.Diagnostics) {
	switch passed, problem := checkExpiry(config.ExpirationTime, now); {
	case problem == "":
	case passed:
		diags.AddAttributeWarning(
			path.Root("expiration_time"),
			"The token has expired",
			fmt.Sprintf("expiration_time: %s The apply does not create the token.", problem),
		)
	default:
		diags.Append(attr.Error(path.Root("expiration_time"), "The expiration time is not possible", problem))
	}
}

// plannedDelivery returns what a plan can know about delivered_to. It depends only on the state: Terraform plans again when it
// applies, and a value that was known in the first plan and is unknown in the second is an error. A repeated delivery may fail
// because its namespace does not exist.
func plannedDelivery(
	ctx context.Context,
	state tokenModel,
	exists bool,
	targets []consulacl.Target,
	known bool,
	diags *diag.Diagnostics,
) types.Set {
	if !known {
		return types.SetUnknown(types.StringType)
	}
	planned := targetNames(ctx, targets, diags)
	if exists && !planned.Equal(state.DeliveredTo) {
		return types.SetUnknown(types.StringType)
	}
	return planned
}

// warnOfRecordedTrigger warns that a trigger which was not set before, for example
// after an import, does not rotate the token.
func warnOfRecordedTrigger(plan, state tokenModel, diags *diag.Diagnostics) {
	var p, s rotationModel
	p.from(plan.Rotation)
	s.from(state.Rotation)
	if !p.Trigger.IsNull() && s.Trigger.IsNull() {
		diags.AddAttributeWarning(path.Root("rotation").AtName("trigger"), "The token is not rotated yet", fmt.Sprintf(
			"The token %s had no trigger before, so this apply only records the trigger. To rotate the token, apply, and then change the "+
				"trigger again.",
			state.AccessorID.ValueString(),
		))
	}
}

// warnOfLostRights names the rights of the anonymous token that are replaced by the declared ones.
func warnOfLostRights(plan tokenModel, existing *api.ACLTokenListEntry, importCommand string, diags *diag.Diagnostics) {
	var lost []string
	for _, l := range existing.Policies {
		lost = append(lost, fmt.Sprintf("policy %q", l.Name))
	}
	for _, l := range existing.Roles {
		lost = append(lost, fmt.Sprintf("role %q", l.Name))
	}
	if len(existing.ServiceIdentities)+len(existing.NodeIdentities)+len(existing.TemplatedPolicies) > 0 {
		lost = append(lost, "identities and templated policies")
	}
	if len(lost) > 0 {
		diags.AddWarning("The anonymous token already has rights", fmt.Sprintf(
			"The declared rights replace the rights that the token has in %s: %s. To see each change in a plan, import the token first: %s",
			plan.Cluster.ValueString(),
			atMost(lost, 20),
			importCommand,
		))
	}
}

// hasChosen reports whether a token is known to have the declared secret ID, as an
// imported token may.
func (r *TokenResource) hasChosen(ctx context.Context, state, config tokenModel) bool {
	if config.SecretID.IsNull() || config.SecretID.IsUnknown() {
		return false
	}
	a := r.forPlan(ctx, state.Cluster)
	if a == nil {
		return false
	}
	existing, err := a.Tokens.Get(ctx, state.AccessorID.ValueString())
	return err == nil && existing.SecretID == config.SecretID.ValueString()
}

// plannedExpiry returns the expiration time, if a plan can know it.
func plannedExpiry(m tokenModel) types.String {
	if !m.ExpirationTTL.IsNull() {
		return types.StringUnknown()
	}
	return m.ExpirationTime
}

// rotationDue returns why a new token must replace the one in the state, and which
// attribute requires it, or "" if no rotation is due. A rotation is due if the
// configuration asks for it, or if Consul cannot change in place what changed. The
// expiration time of plan is the declared one. That of state was declared if
// expiryDeclared is true; the expiration time of an imported token is left alone.
func rotationDue(plan, state tokenModel, expiryDeclared bool, now time.Time) (attribute, reason string) {
	var p, s rotationModel
	p.from(plan.Rotation)
	s.from(state.Rotation)
	created, err := time.Parse(time.RFC3339Nano, state.CreateTime.ValueString())
	after, _ := time.ParseDuration(p.After.ValueString())
	switch {
	case !p.Trigger.IsNull() && !s.Trigger.IsNull() && !p.Trigger.Equal(s.Trigger):
		return "rotation", "the trigger changed"
	case err == nil && after > 0 && now.Sub(created) >= after:
		return "rotation", fmt.Sprintf("it is older than %s", p.After.ValueString())
	case !plan.Local.Equal(state.Local):
		return "local", "local changed"
	case !plan.ExpirationTTL.Equal(state.ExpirationTTL) && !plan.ExpirationTTL.IsNull() && !livesFor(state, plan.ExpirationTTL):
		return "expiration_ttl", "its expiry changed"
	case !plan.ExpirationTime.IsNull() && !sameTime(plan.ExpirationTime, state.ExpirationTime):
		return "expiration_time", "its expiry changed"
	case plan.ExpirationTTL.IsNull() && !state.ExpirationTTL.IsNull() && plan.ExpirationTime.IsNull():
		return "expiration_ttl", "its expiry was removed"
	case plan.ExpirationTTL.IsNull() && expiryDeclared && !state.ExpirationTime.IsNull() && plan.ExpirationTime.IsNull():
		return "expiration_time", "its expiry was removed"
	case !plan.SecretIDVersion.IsNull() && state.SecretIDVersion.IsNull():
		return "secret_id_wo_version", "a secret ID was chosen"
	case !plan.SecretIDVersion.IsNull() && !plan.SecretIDVersion.Equal(state.SecretIDVersion):
		return "secret_id_wo_version", "the chosen secret ID changed"
	}
	return "", ""
}

// livesFor reports whether a token has the given lifetime although the state does not record it, as after an import.
func livesFor(state tokenModel, ttl types.String) bool {
	want, errWant := time.ParseDuration(ttl.ValueString())
	created, errCreated := time.Parse(time.RFC3339Nano, state.CreateTime.ValueString())
	expires, errExpires := time.Parse(time.RFC3339Nano, state.ExpirationTime.ValueString())
	return state.ExpirationTTL.IsNull() && errWant == nil && errCreated == nil && errExpires == nil &&
		(expires.Sub(created)-want).Abs() < time.Second
}

// expiryKey is where the private state keeps whether the expiration time in the
// state was declared. The state of an imported token looks the same.
const expiryKey = "expiration_time_declared"

func sameTime(a, b types.String) bool {
	x, errX := time.Parse(time.RFC3339, a.ValueString())
	y, errY := time.Parse(time.RFC3339, b.ValueString())
	return a.Equal(b) || (errX == nil && errY == nil && x.Equal(y))
}

// claimTargets reports an accessor ID or a key of a Secret that another resource
// declares too, and a Secret that is declared with different types or labels. It
// returns the ID of the token that this one replaces.
func (r *TokenResource) claimTargets(
	plan tokenModel,
	targets []consulacl.Target,
	owner types.String,
	config tfsdk.Config,
	diags *diag.Diagnostics,
) (replaces string) {
	if r.clients == nil {
		return ""
	}
	if accessor := plan.AccessorID; !accessor.IsUnknown() {
		var ok bool
		if replaces, ok = r.clients.Claims.Claim(
			claimOf("token", plan.Cluster.ValueString(), accessor.ValueString()), owner.ValueString(), fingerprint(config),
		); !ok {
			diags.Append(attr.Errorf(path.Root("accessor_id"), "Duplicate token",
				"another %s declares the token %s too. Remove one of the two.", r.typeName, accessor.ValueString()))
		}
	}
	for _, t := range targets {
		former, ok := r.clients.Claims.Claim("key "+t.String(), owner.ValueString(), fingerprint(config))
		if !ok {
			diags.Append(attr.Errorf(path.Root("secret"), "Two tokens for one key",
				"another %s delivers to the key %s of Secret %s/%s too. Choose another key or another Secret.", r.typeName, t.Key,
				t.Namespace, t.Name))
		}
		replaces = cmp.Or(replaces, former)
		form := map[string]string{"type": "=" + t.Type}
		for k, v := range t.Labels {
			form["label "+k] = "=" + v
		}
		for part, value := range form {
			if _, ok := r.clients.Claims.Claim(part+" of Secret "+t.Namespace+"/"+t.Name, value, ""); ok {
				continue
			}
			diags.Append(attr.Errorf(path.Root("secret"), "One Secret, two forms",
				"the Secret %s/%s is also declared with another %s. Use the same one for each of its keys.", t.Namespace, t.Name, part))
		}
	}
	return replaces
}

// checkTargets reports Secrets that the token cannot be delivered to. If the Secret was declared before, this is drift of this
// token, and only a warning: it must not block the plan of other resources. A namespace that does not exist is a warning too,
// because the same apply may create it.
func (r *TokenResource) checkTargets(
	ctx context.Context,
	a *consulacl.ACL,
	targets []consulacl.Target,
	state tokenModel,
	diags *diag.Diagnostics,
) {
	delivered := texts(ctx, state.DeliveredTo, diags)
	before, _ := state.targets(ctx, diags)
	for _, t := range targets {
		if slices.Contains(delivered, t.String()) {
			continue
		}
		declared := isAmong(before, t)
		if a.Deliveries.NamespaceMissing(ctx, t.Namespace) {
			if !r.clients.Claims.PlannedNamespace(t.Namespace) {
				warnOfNamespace(t, declared, diags)
			}
			continue
		}
		h, err := a.Deliveries.Holder(ctx, t)
		if err != nil {
			continue // the apply reports it
		}
		if taken := r.taken(ctx, a, h, state); !taken {
			continue
		}
		detail := (&consulacl.TakenError{Target: t, Holder: h}).Error() + ". " + r.takenRemedy(t, h)
		if declared {
			diags.AddAttributeWarning(
				path.Root("secret"),
				"The Secret is taken",
				"secret: "+detail+"\n\nUntil you do, the apply of this token fails.",
			)
			continue
		}
		diags.Append(attr.Error(path.Root("secret"), "The Secret is taken", detail))
	}
}

// warnOfNamespace warns that the namespace of a target does not exist. declared says that the target was declared before.
func warnOfNamespace(t consulacl.Target, declared bool, diags *diag.Diagnostics) {
	if declared {
		diags.AddAttributeWarning(path.Root("secret"), "The namespace of a Secret is gone", fmt.Sprintf(
			"secret: the namespace %s does not exist or is being deleted, and the Secret %s with the token is deleted with it. The token "+
				"stays valid. "+
				"The first apply after the namespace is back delivers the token again. If the namespace does not come back, remove the Secret from "+
				"the configuration, or destroy the token.",
			t.Namespace,
			t.Name,
		))
		return
	}
	diags.AddAttributeWarning(path.Root("secret"), "There is no such namespace", fmt.Sprintf(
		"secret: the namespace %s of the Secret %s does not exist. If the same apply creates the namespace, refer to it, for example with "+
			"namespace = kubernetes_namespace.<name>.metadata[0].name, so that it is created first. "+
			"Otherwise, create the namespace before the apply, which does not create a token that it cannot deliver.",
		t.Namespace,
		t.Name,
	))
}

func isAmong(targets []consulacl.Target, t consulacl.Target) bool {
	return slices.ContainsFunc(targets, func(o consulacl.Target) bool { return o.String() == t.String() })
}

// refuseMissing returns an error if the namespace of a newly declared target does not exist. Nothing has been changed then.
func refuseMissing(ctx context.Context, a *consulacl.ACL, targets, before []consulacl.Target) error {
	for _, t := range targets {
		if !isAmong(before, t) && a.Deliveries.NamespaceGone(ctx, t.Namespace) {
			return &consulacl.NamespaceError{Target: t}
		}
	}
	return nil
}

// taken reports whether the holder of a key prevents this resource from using it.
// This is a Secret that another tool or person made, or a token that still exists,
// unless it is this token, its successor, or one that an interrupted create left.
func (*TokenResource) taken(ctx context.Context, a *consulacl.ACL, h consulacl.Holder, state tokenModel) bool {
	own := state.AccessorID.ValueString()
	switch {
	case h.Foreign:
		return true
	case h.AccessorID == "" || h.AccessorID == own || (own != "" && h.AccessorID == consulacl.Successor(own)):
		return false
	case h.Cluster != a.Cluster().ID():
		return true
	}
	holder, err := a.Tokens.Get(ctx, h.AccessorID)
	return !errors.Is(err, consulacl.ErrNotFound) && (err != nil || holder.Description != consulacl.Unfinished)
}

func (r *TokenResource) write(ctx context.Context, c *change[tokenModel]) error {
	targets, _ := c.plan.targets(ctx, c.diags)
	wanted := c.plan.toAPI(ctx, c.diags)
	if c.diags.HasError() {
		return errReported
	}
	if c.exists {
		return r.update(ctx, c, wanted, targets)
	}
	return r.create(ctx, c, wanted, targets)
}

func (r *TokenResource) create(ctx context.Context, c *change[tokenModel], wanted api.ACLToken, targets []consulacl.Target) error {
	if c.plan.isAnonymous() { // it is always there
		token, err := c.acl.Tokens.Update(ctx, wanted)
		if err != nil {
			return c.fail(r.failed("change", "", err))
		}
		c.plan.fromAPI(ctx, *token, c.diags)
		c.plan.DeliveredTo = targetNames(ctx, nil, c.diags)
		return nil
	}
	if refuseExpiry(c) {
		return errReported
	}
	if err := refuseMissing(ctx, c.acl, targets, nil); err != nil {
		return err
	}
	var err error
	switch {
	case wanted.AccessorID == "" && len(targets) > 0:
		wanted.AccessorID, err = r.accessorFor(ctx, c.acl, targets[0])
	case wanted.AccessorID == "":
		wanted.AccessorID = uuid.NewString()
	}
	wanted.SecretID = secretID(c.config)
	var token *api.ACLToken
	if err == nil {
		token, err = r.createAndDeliver(ctx, c.acl, wanted, targets, !c.config.SecretID.IsNull())
	}
	if errors.Is(err, consulacl.ErrExists) && c.plan.AccessorID.IsUnknown() && c.config.SecretID.IsNull() {
		// Consul keeps an expired token for a while, but reports that it does not exist.
		wanted.AccessorID = uuid.NewString()
		token, err = r.createAndDeliver(ctx, c.acl, wanted, targets, false)
	}
	if err != nil {
		c.importAs = wanted.AccessorID
		return err
	}
	written(ctx, c, *token, targets)
	return nil
}

// refuseExpiry reports an expiration time that a token which is created now cannot have.
func refuseExpiry(c *change[tokenModel]) bool {
	_, problem := checkExpiry(c.config.ExpirationTime, time.Now())
	if problem != "" {
		c.diags.Append(attr.Error(path.Root("expiration_time"), "The expiration time is not possible", problem))
	}
	return problem != ""
}

// written copies what Consul has after a write to the state, and records what was declared.
func written(ctx context.Context, c *change[tokenModel], token api.ACLToken, delivered []consulacl.Target) {
	saveLinks(ctx, c.private, c.diags, c.plan.Policies, c.plan.Roles)
	saveAs(ctx, c.private, expiryKey, !c.config.ExpirationTime.IsNull(), c.diags)
	c.plan.fromAPI(ctx, token, c.diags)
	c.plan.DeliveredTo = targetNames(ctx, delivered, c.diags)
}

// accessorFor returns the accessor ID that follows from a target, unless a token
// already has it that was once delivered there and is now in use elsewhere.
func (*TokenResource) accessorFor(ctx context.Context, a *consulacl.ACL, t consulacl.Target) (string, error) {
	accessorID := consulacl.AccessorFor(a.Cluster(), t)
	existing, err := a.Tokens.Read(ctx, accessorID)
	switch {
	case errors.Is(err, consulacl.ErrNotFound):
		return accessorID, nil
	case err == nil && existing.Description != consulacl.Unfinished:
		return uuid.NewString(), nil
	}
	return accessorID, err
}

// createAndDeliver creates a token and delivers it. Until this is done, the description of
// the token says so: after an interruption, the next call resumes with the same token.
func (r *TokenResource) createAndDeliver(
	ctx context.Context,
	a *consulacl.ACL,
	wanted api.ACLToken,
	targets []consulacl.Target,
	insist bool,
) (*api.ACLToken, error) {
	unfinished := wanted
	unfinished.Description = consulacl.Unfinished
	token, err := a.EnsureToken(
		ctx,
		unfinished,
		insist,
		func(existing api.ACLToken) bool { return existing.Description == consulacl.Unfinished },
	)
	if err != nil {
		return nil, err
	}
	missing, err := r.deliver(ctx, a, targets, *token, "")
	if err == nil && len(missing) > 0 {
		err = &consulacl.NamespaceError{Target: missing[0]}
	}
	if err != nil {
		return nil, errors.Join(err, r.undo(ctx, a, targets, token.AccessorID))
	}
	wanted.AccessorID, wanted.SecretID = token.AccessorID, token.SecretID
	return a.Tokens.Update(ctx, wanted)
}

// secretID is the secret ID for a new token.
func secretID(config tokenModel) string {
	if !config.SecretID.IsNull() {
		return config.SecretID.ValueString()
	}
	return uuid.NewString()
}

// deliver writes a token into all targets as soon as every server knows it. It returns the targets whose namespace does not
// exist, and still delivers to the others.
func (r *TokenResource) deliver(
	ctx context.Context,
	a *consulacl.ACL,
	targets []consulacl.Target,
	token api.ACLToken,
	previous string,
) (missing []consulacl.Target, err error) {
	if len(targets) == 0 {
		return nil, nil
	}
	if token.SecretID == consulacl.HiddenSecretID {
		return nil, &consul.PermissionError{Permission: "acl:write"} // Consul shows secret IDs only to tokens with it
	}
	if err := a.AwaitToken(ctx, token.AccessorID); err != nil {
		return nil, err
	}
	var errs []error
	for _, t := range targets {
		former, err := r.formerHolder(ctx, a, t, token.AccessorID, previous)
		if err == nil {
			err = a.Deliveries.Deliver(ctx, t, token.AccessorID, token.SecretID, former)
		}
		if errors.As(err, new(*consulacl.NamespaceError)) {
			missing = append(missing, t)
			continue
		}
		errs = append(errs, err)
	}
	return missing, errors.Join(errs...)
}

// formerHolder returns the accessor ID that may be overwritten in a target: that of
// the replaced token, or of a token that no longer exists, or of a token that an
// abandoned rotation delivered.
func (r *TokenResource) formerHolder(
	ctx context.Context,
	a *consulacl.ACL,
	t consulacl.Target,
	accessorID, previous string,
) (string, error) {
	h, err := a.Deliveries.Holder(ctx, t)
	if err != nil || h.Foreign || h.AccessorID == "" || h.AccessorID == accessorID || h.AccessorID == previous {
		return previous, err
	}
	if r.taken(ctx, a, h, tokenModel{AccessorID: types.StringValue(accessorID)}) {
		return previous, nil
	}
	return h.AccessorID, nil
}

// undo reverts a create that cannot be completed.
func (*TokenResource) undo(ctx context.Context, a *consulacl.ACL, targets []consulacl.Target, accessorID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, t := range targets {
		errs = append(errs, a.Deliveries.Withdraw(ctx, t, accessorID))
	}
	return errors.Join(append(errs, a.Tokens.Delete(ctx, accessorID))...)
}

func (*TokenResource) read(ctx context.Context, r *refresh[tokenModel]) error {
	a, m := r.acl, &r.model
	if r.imported {
		if m.ID.ValueString() == "anonymous" {
			m.ID = types.StringValue(consulacl.AnonymousAccessorID)
		}
		if refuseImport(ctx, r) {
			return errReported
		}
	}
	entry, err := a.Tokens.Get(ctx, m.ID.ValueString())
	if errors.Is(err, consulacl.ErrNotFound) && !r.imported {
		// A rotation may have been interrupted after it revoked the old token.
		if successor, successorErr := a.Tokens.Get(ctx, consulacl.Successor(m.ID.ValueString())); successorErr == nil {
			entry, err = successor, nil
		}
	}
	if err != nil {
		return err
	}
	a.Tokens.Own(entry.AccessorID)
	if r.imported {
		found, all, err := a.Deliveries.Find(ctx, entry.AccessorID, entry.SecretID)
		if err != nil {
			r.diags.AddError("Cannot import the token", err.Error()+".")
			return errReported
		}
		if !all {
			r.diags.AddWarning("Not all Secrets were searched", fmt.Sprintf(
				"This credential may not list the Secrets of all namespaces, so the provider searched only the namespace of the cluster for Secrets "+
					"with the token %s. The next plan shows declared Secrets in other namespaces as a change, and the apply delivers the token to "+
					"them again.",
				entry.AccessorID,
			))
		}
		m.fromFound(ctx, found, r.diags)
	}
	targets, _ := m.targets(ctx, r.diags)
	targets = slices.DeleteFunc(targets, func(t consulacl.Target) bool {
		delivered, err := a.Deliveries.Delivered(ctx, t, entry.AccessorID, entry.SecretID)
		if err != nil {
			r.diags.AddWarning("A Secret was not read", "The state of the Secret stays as it is: "+err.Error()+".")
			return false
		}
		return !delivered
	})
	m.fromAPI(ctx, listed(entry), r.diags)
	m.DeliveredTo = targetNames(ctx, targets, r.diags)
	return nil
}

// refuseImport reports a token that belongs to consul_k8s_acl_bootstrap.
func refuseImport(ctx context.Context, r *refresh[tokenModel]) bool {
	var reason string
	id := r.model.ID.ValueString()
	switch own, err := r.acl.IsOwnToken(ctx, id); {
	case err == nil && own:
		reason = "the management token, which the provider itself uses."
	case consulacl.IsAgentToken(r.acl.Cluster(), id):
		reason = "the agent token of a server, which needs it to keep its own entries in the catalog up to date."
	default:
		return false
	}
	r.diags.AddError("Cannot import the token", fmt.Sprintf("The token %s is %s It belongs to consul_k8s_acl_bootstrap.", id, reason))
	return true
}

// update resumes a rotation that was interrupted: the accessor ID of the new token follows from that of the old one, which stays
// in the state until the old token is revoked.
func (r *TokenResource) update(ctx context.Context, c *change[tokenModel], wanted api.ACLToken, targets []consulacl.Target) error {
	before, _ := c.state.targets(ctx, c.diags)
	if err := refuseMissing(ctx, c.acl, targets, before); err != nil {
		return err
	}
	old, grace, rotate := c.state.AccessorID.ValueString(), c.plan.gracePeriod(), c.plan.AccessorID.IsUnknown()
	if rotate && c.state.SecretIDVersion.IsNull() && r.hasChosen(ctx, c.state, c.config) { // the plan did not know this
		planned, before := c.plan, c.state
		planned.ExpirationTime, before.SecretIDVersion = c.config.ExpirationTime, c.plan.SecretIDVersion
		_, reason := rotationDue(planned, before, saved[bool](ctx, c.private, expiryKey, c.diags), time.Now())
		rotate = reason != ""
	}
	if rotate && refuseExpiry(c) {
		return errReported
	}
	var token *api.ACLToken
	var missing []consulacl.Target
	var err error
	if rotate {
		wanted.AccessorID, wanted.SecretID = consulacl.Successor(old), secretID(c.config)
		token, missing, err = r.rotate(ctx, c.acl, wanted, targets, old, grace, !c.config.SecretID.IsNull())
	} else {
		wanted.AccessorID = old
		token, missing, err = r.change(ctx, c.acl, wanted, targets, grace)
	}
	if err != nil {
		return err
	}
	delivered := slices.DeleteFunc(slices.Clone(targets), func(t consulacl.Target) bool { return isAmong(missing, t) })
	if !c.plan.DeliveredTo.IsUnknown() { // the plan did not know what is missing; the next refresh detects it
		delivered = targets
		for _, t := range missing {
			warnOfNamespace(t, true, c.diags)
		}
	}
	for _, t := range before {
		if !isAmong(targets, t) {
			err = errors.Join(err, withdraw(ctx, c.acl, t, old, token.AccessorID))
		}
	}
	if err != nil {
		// Secrets that are left must stay in the state, so that the next apply tries again.
		c.plan.Secret, c.plan.Secrets = c.state.Secret, c.state.Secrets
		c.diags.Append(r.failed("change", "", err))
	}
	written(ctx, c, *token, delivered)
	return nil
}

// withdraw removes a token from a target, whichever of the accessor IDs the target records. It also removes one that was
// replaced and no longer exists.
func withdraw(ctx context.Context, a *consulacl.ACL, t consulacl.Target, accessorIDs ...string) error {
	if h, err := a.Deliveries.Holder(ctx, t); err == nil && !h.Foreign && h.AccessorID != "" && h.Cluster == a.Cluster().ID() {
		if _, err := a.Tokens.Get(ctx, h.AccessorID); errors.Is(err, consulacl.ErrNotFound) {
			accessorIDs = append(accessorIDs, h.AccessorID)
		}
	}
	var errs []error
	for _, id := range accessorIDs {
		errs = append(errs, a.Deliveries.Withdraw(ctx, t, id))
	}
	return errors.Join(errs...)
}

// change changes a token in place and delivers it where it is missing. A token that
// an abandoned rotation left is removed after the grace period, because it may be in use.
func (r *TokenResource) change(
	ctx context.Context,
	a *consulacl.ACL,
	wanted api.ACLToken,
	targets []consulacl.Target,
	grace time.Duration,
) (token *api.ACLToken, missing []consulacl.Target, err error) {
	token, err = a.Tokens.Update(ctx, wanted)
	if err != nil {
		return nil, nil, err
	}
	if missing, err = r.deliver(ctx, a, targets, *token, ""); err != nil {
		return nil, nil, err
	}
	abandoned := consulacl.Successor(wanted.AccessorID)
	if _, err := a.Tokens.Get(ctx, abandoned); err == nil {
		return token, missing, revoke(ctx, a, abandoned, grace)
	}
	return token, missing, nil
}

// rotate delivers a new token, waits for the grace period, so that clients can read
// it from the Secrets, and revokes the old token.
func (r *TokenResource) rotate(
	ctx context.Context,
	a *consulacl.ACL,
	wanted api.ACLToken,
	targets []consulacl.Target,
	old string,
	grace time.Duration,
	insist bool,
) (token *api.ACLToken, missing []consulacl.Target, err error) {
	token, err = a.EnsureToken(ctx, wanted, insist, func(api.ACLToken) bool { return true }) // nothing else creates a successor
	if err != nil {
		return nil, nil, err
	}
	if missing, err = r.deliver(ctx, a, targets, *token, old); err != nil {
		return nil, nil, err
	}
	return token, missing, revoke(ctx, a, old, grace)
}

// revoke deletes a token after its grace period.
func revoke(ctx context.Context, a *consulacl.ACL, accessorID string, grace time.Duration) error {
	over := time.Now().Add(grace)
	err := kube.Wait(ctx, "the grace period of the old token to end", time.Second, func(context.Context) (string, error) {
		if left := time.Until(over); left > 0 {
			return left.Round(time.Second).String() + " left", nil
		}
		return "", nil
	})
	if err != nil {
		return err
	}
	return a.Tokens.Delete(ctx, accessorID)
}

// delete deletes a token. The anonymous token cannot be deleted, and only loses its rights.
func (r *TokenResource) delete(ctx context.Context, a *consulacl.ACL, m tokenModel, diags *diag.Diagnostics) error {
	targets, _ := m.targets(ctx, diags)
	if diags.HasError() {
		return errReported
	}
	if m.isAnonymous() {
		_, err := a.Tokens.Update(ctx, api.ACLToken{AccessorID: m.AccessorID.ValueString(), Description: "Anonymous Token"})
		return err
	}
	return r.remove(ctx, a, targets, m.AccessorID.ValueString())
}

// remove removes a token from its Secrets and revokes it, in this order: the resource stays in the state as long as the token
// exists, so that the next apply knows what a failure left behind. If the management token may not revoke the token, the
// Secrets stay, because the workloads still use it.
func (*TokenResource) remove(ctx context.Context, a *consulacl.ACL, targets []consulacl.Target, accessor string) error {
	if err := a.Authorize(ctx, "write"); err != nil && !errors.Is(err, consulacl.ErrNoCluster) {
		return err
	}
	successor := consulacl.Successor(accessor) // of a rotation that was interrupted
	for _, t := range targets {
		if err := withdraw(ctx, a, t, accessor, successor); err != nil {
			return err
		}
	}
	err := a.Tokens.Delete(ctx, accessor)
	if err != nil {
		return err
	}
	if _, err := a.Tokens.Get(ctx, successor); err == nil {
		return a.Tokens.Delete(ctx, successor)
	}
	return nil
}

// listed returns what the list contains about a token.
func listed(t *api.ACLTokenListEntry) api.ACLToken {
	return api.ACLToken{
		AccessorID: t.AccessorID, Description: t.Description, Local: t.Local, CreateTime: t.CreateTime, ExpirationTime: t.ExpirationTime,
		Policies: t.Policies, Roles: t.Roles, ServiceIdentities: t.ServiceIdentities, NodeIdentities: t.NodeIdentities,
		TemplatedPolicies: t.TemplatedPolicies,
	}
}
