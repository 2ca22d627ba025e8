package acl

import (
	"cmp"
	"context"
	"encoding/json"
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
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
)

var (
	_ resource.ResourceWithConfigure      = &TokenResource{}
	_ resource.ResourceWithModifyPlan     = &TokenResource{}
	_ resource.ResourceWithImportState    = &TokenResource{}
	_ resource.ResourceWithIdentity       = &TokenResource{}
	_ resource.ResourceWithValidateConfig = &TokenResource{}
)

// TokenResource is consul_k8s_token.
type TokenResource struct{ object }

// NewTokenResource returns the resource consul_k8s_token.
func NewTokenResource() resource.Resource {
	return &TokenResource{object{kind: "token", typeName: "consul_k8s_token"}}
}

// Metadata implements resource.Resource. A rotation changes the identity.
func (r *TokenResource) Metadata(ctx context.Context, req resource.MetadataRequest, resp *resource.MetadataResponse) {
	r.object.Metadata(ctx, req, resp)
	resp.ResourceBehavior.MutableIdentity = true
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (r *TokenResource) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	var plan, state, config tokenModel
	exists := !req.State.Raw.IsNull()
	if exists {
		resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	}
	if req.Plan.Raw.IsNull() {
		r.leave(state.Cluster, state.ID)
		return
	}
	resp.Diagnostics.Append(req.Plan.Get(ctx, &plan)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	if resp.Diagnostics.HasError() {
		return
	}
	defer r.warnOnce(state.Cluster, state.ID, &resp.Diagnostics)
	targets, known := plan.targets(ctx, &resp.Diagnostics)
	if exists && (!plan.Cluster.Equal(state.Cluster) || (!plan.AccessorID.IsUnknown() && !plan.AccessorID.Equal(state.AccessorID))) {
		r.claimTargets(plan, targets, state.ID, req.Config, &resp.Diagnostics)
		return // it is replaced, and planned again as a new one
	}
	plan.ExpirationTime = config.ExpirationTime
	now, before := time.Now(), state
	if exists && state.SecretIDVersion.IsNull() && r.hasChosen(ctx, state, config) {
		before.SecretIDVersion = plan.SecretIDVersion // which needs only to be recorded
	}
	due, reason := rotationDue(plan, before, declaredExpiry(ctx, req.Private, &resp.Diagnostics), now)
	switch {
	case !exists:
		plan.ExpirationTime = plannedExpiry(plan)
	case reason == "":
		plan.ID, plan.AccessorID, plan.CreateTime, plan.ExpirationTime = state.ID, state.AccessorID, state.CreateTime, state.ExpirationTime
	case !config.AccessorID.IsNull():
		resp.RequiresReplace = append(resp.RequiresReplace, path.Root(due)) // one accessor ID has one token
		r.claimTargets(plan, targets, state.ID, req.Config, &resp.Diagnostics)
		return
	default:
		plan.ID, plan.AccessorID, plan.CreateTime, plan.ExpirationTime = types.StringUnknown(), types.StringUnknown(), types.StringUnknown(), plannedExpiry(plan)
		resp.Diagnostics.AddWarning("The token is rotated", fmt.Sprintf(
			"The token %s of %s is replaced by a new one because %s. The new one is delivered first; the old one is revoked %s later.",
			state.AccessorID.ValueString(), state.Cluster.ValueString(), reason, plan.gracePeriod()))
	}
	if exists && reason == "" {
		warnOfRecordedTrigger(plan, state, &resp.Diagnostics)
	} else { // a token is made
		planExpiry(config, now, &resp.Diagnostics)
	}
	plan.DeliveredTo = plannedDelivery(ctx, state, exists, targets, known, &resp.Diagnostics)
	resp.Diagnostics.Append(resp.Plan.Set(ctx, &plan)...)
	if exists {
		same, unchanged := plan, resp.Plan
		same.keepTargets(ctx, state, &resp.Diagnostics)
		same.Policies = r.keepLinks(ctx, plan.Cluster, plan.Policies, state.Policies, policyRefs)
		same.Roles = r.keepLinks(ctx, plan.Cluster, plan.Roles, state.Roles, roleRefs)
		resp.Diagnostics.Append(unchanged.Set(ctx, &same)...)
		if unchanged.Raw.Equal(req.State.Raw) {
			resp.Plan = unchanged
		}
	}
	replaces := r.claimTargets(plan, targets, state.ID, req.Config, &resp.Diagnostics)
	if resp.Diagnostics.HasError() || (exists && resp.Plan.Raw.Equal(req.State.Raw)) {
		return
	}
	a := r.forPlan(ctx, plan.Cluster)
	if !r.mayWrite(ctx, a, &resp.Diagnostics) {
		return
	}
	declared := declaredLinks(ctx, req.Private, &resp.Diagnostics)
	if !plan.Policies.Equal(state.Policies) {
		r.checkPolicies(ctx, a, plan.Cluster, plan.Policies, declared, &resp.Diagnostics)
	}
	if !plan.Roles.Equal(state.Roles) {
		r.checkRoles(ctx, a, plan.Cluster, plan.Roles, declared, &resp.Diagnostics)
	}
	if replaces != "" {
		state.AccessorID = types.StringValue(replaces) // what holds its targets is the former self
	}
	r.checkTargets(ctx, a, targets, state, &resp.Diagnostics)
	switch existing, err := a.Tokens.Get(ctx, plan.AccessorID.ValueString()); {
	case exists || plan.AccessorID.IsUnknown() || err != nil || existing.AccessorID == replaces:
	case plan.isAnonymous():
		warnOfLostRights(plan, existing, r.importCommand(plan.Cluster.ValueString(), "anonymous"), &resp.Diagnostics)
	default:
		if existing.Description != consul.Unfinished && !r.leaves("token", plan.Cluster, existing.AccessorID) {
			resp.Diagnostics.Append(attr.Error(path.Root("accessor_id"), "The token exists already", fmt.Sprintf(
				"import it: %s", r.importCommand(plan.Cluster.ValueString(), plan.AccessorID.ValueString()))))
		}
	}
}

// planExpiry refuses an expiration time that no new token can have. One that has passed is a warning: the token that had
// it has expired, and nothing else in the plan is to wait for another time. The apply does not make the token.
func planExpiry(config tokenModel, now time.Time, diags *diag.Diagnostics) {
	switch passed, problem := checkExpiry(config.ExpirationTime, now); {
	case problem == "":
	case passed:
		diags.AddAttributeWarning(path.Root("expiration_time"), "The token has expired", fmt.Sprintf("expiration_time: %s The apply does not make the token.", problem))
	default:
		diags.Append(attr.Error(path.Root("expiration_time"), "No token can expire then", problem))
	}
}

// plannedDelivery is delivered_to as far as a plan can tell. It follows from the state alone: Terraform plans once more
// when it applies, and takes what is not known then, and was known before, for an error. What is to be delivered again
// may fail with its namespace.
func plannedDelivery(ctx context.Context, state tokenModel, exists bool, targets []consul.Target, known bool, diags *diag.Diagnostics) types.Set {
	if !known {
		return types.SetUnknown(types.StringType)
	}
	planned := targetNames(ctx, targets, diags)
	if exists && !planned.Equal(state.DeliveredTo) {
		return types.SetUnknown(types.StringType)
	}
	return planned
}

// warnOfRecordedTrigger says that a trigger which was not there before, as after an
// import, does not rotate.
func warnOfRecordedTrigger(plan, state tokenModel, diags *diag.Diagnostics) {
	var p, s rotationModel
	p.from(plan.Rotation)
	s.from(state.Rotation)
	if !p.Trigger.IsNull() && s.Trigger.IsNull() {
		diags.AddAttributeWarning(path.Root("rotation").AtName("trigger"), "The token is not rotated yet", fmt.Sprintf(
			"The token %s had no trigger before: this apply only records it. To rotate the token, apply, and change the trigger once more.", state.AccessorID.ValueString()))
	}
}

// warnOfLostRights names what the anonymous token may do now and is not declared.
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
		diags.AddWarning("The anonymous token has rights already", fmt.Sprintf(
			"What is declared takes the place of what it has in %s: %s. To see each change in a plan, import it first: %s", plan.Cluster.ValueString(), atMost(lost, 20), importCommand))
	}
}

// hasChosen reports whether a token is known to have the secret ID that is chosen
// for it now, as one that was imported may.
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

// plannedExpiry is the expiration time as far as a plan can know it.
func plannedExpiry(m tokenModel) types.String {
	if !m.ExpirationTTL.IsNull() {
		return types.StringUnknown()
	}
	return m.ExpirationTime
}

// rotationDue says why a new token must take the place of the one in the state,
// and which attribute says so; "" if it need not: it is wanted, or what changed
// Consul does not change. The expiration time of plan is what is configured, and
// that of state was so too if expiryDeclared: that of an imported token is left
// alone.
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

// livesFor reports whether a token of which the state does not say how long it lives, as after an import, lives for a time.
func livesFor(state tokenModel, ttl types.String) bool {
	want, errWant := time.ParseDuration(ttl.ValueString())
	created, errCreated := time.Parse(time.RFC3339Nano, state.CreateTime.ValueString())
	expires, errExpires := time.Parse(time.RFC3339Nano, state.ExpirationTime.ValueString())
	return state.ExpirationTTL.IsNull() && errWant == nil && errCreated == nil && errExpires == nil && (expires.Sub(created)-want).Abs() < time.Second
}

// expiryKey is where the private state keeps whether the expiration time in the
// state was declared: an imported one looks the same.
const expiryKey = "expiration_time_declared"

func declaredExpiry(ctx context.Context, private privateReader, diags *diag.Diagnostics) (declared bool) {
	raw, d := private.GetKey(ctx, expiryKey)
	diags.Append(d...)
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &declared) // anything else was not written here
	}
	return declared
}

func saveExpiryDeclared(ctx context.Context, config tokenModel, private privateWriter, diags *diag.Diagnostics) {
	raw, err := json.Marshal(!config.ExpirationTime.IsNull())
	if err == nil {
		diags.Append(private.SetKey(ctx, expiryKey, raw)...)
	}
}

func sameTime(a, b types.String) bool {
	x, errX := time.Parse(time.RFC3339, a.ValueString())
	y, errY := time.Parse(time.RFC3339, b.ValueString())
	return a.Equal(b) || (errX == nil && errY == nil && x.Equal(y))
}

// claimTargets reports an accessor ID, or a key of a Secret, that another resource
// of the configuration declares as well, and a Secret that is declared in two
// ways. It returns the ID of the token that this one replaces.
func (r *TokenResource) claimTargets(plan tokenModel, targets []consul.Target, owner types.String, config tfsdk.Config, diags *diag.Diagnostics) (replaces string) {
	if r.clients == nil {
		return ""
	}
	if accessor := plan.AccessorID; !accessor.IsUnknown() {
		var ok bool
		if replaces, ok = r.clients.Claims.Claim(claimOf("token", plan.Cluster.ValueString(), accessor.ValueString()), owner.ValueString(), fingerprint(config)); !ok {
			diags.Append(attr.Error(path.Root("accessor_id"), "One token twice", fmt.Sprintf("another %s declares the token %s too. Remove one of the two.", r.typeName, accessor.ValueString())))
		}
	}
	for _, t := range targets {
		former, ok := r.clients.Claims.Claim("key "+t.String(), owner.ValueString(), fingerprint(config))
		if !ok {
			diags.Append(attr.Error(path.Root("secret"), "Two tokens for one key", fmt.Sprintf(
				"another %s delivers to the key %s of Secret %s/%s too. Choose another key or another Secret.", r.typeName, t.Key, t.Namespace, t.Name)))
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
			diags.Append(attr.Error(path.Root("secret"), "One Secret, two forms", fmt.Sprintf(
				"the Secret %s/%s is declared with another %s too. Write the same for each of its keys.", t.Namespace, t.Name, part)))
		}
	}
	return replaces
}

// checkTargets reports Secrets that cannot be delivered to. What happens to a Secret that was declared before is drift of
// this token, and no reason to refuse a plan that is about others too: that is a warning. So is a namespace that does
// not exist: it may be made by the same apply.
func (r *TokenResource) checkTargets(ctx context.Context, a *consul.ACL, targets []consul.Target, state tokenModel, diags *diag.Diagnostics) {
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
			continue // apply will tell
		}
		if taken := r.taken(ctx, a, h, state); !taken {
			continue
		}
		detail := (&consul.TakenError{Target: t, Holder: h}).Error() + ". " + r.takenRemedy(t, h)
		if declared {
			diags.AddAttributeWarning(path.Root("secret"), "The Secret is taken", "secret: "+detail+" Until then the apply of this token fails.")
			continue
		}
		diags.Append(attr.Error(path.Root("secret"), "The Secret is taken", detail))
	}
}

// warnOfNamespace says that a target has no namespace. declared says that it was declared before.
func warnOfNamespace(t consul.Target, declared bool, diags *diag.Diagnostics) {
	if declared {
		diags.AddAttributeWarning(path.Root("secret"), "The namespace of a Secret is gone", fmt.Sprintf(
			"secret: the namespace %s does not exist, or is being deleted, and the Secret %s with the token went with it. The token stays valid. "+
				"It is delivered again by the first apply after the namespace is back. If it does not come back, remove the Secret from the configuration, or destroy the token.", t.Namespace, t.Name))
		return
	}
	diags.AddAttributeWarning(path.Root("secret"), "There is no such namespace", fmt.Sprintf(
		"secret: the namespace %s of the Secret %s does not exist. If the same apply creates it, refer to it, as with namespace = kubernetes_namespace.<name>.metadata[0].name, so that it is created first. "+
			"Otherwise create it before: the apply does not make a token that it cannot deliver.", t.Namespace, t.Name))
}

func isAmong(targets []consul.Target, t consul.Target) bool {
	return slices.ContainsFunc(targets, func(o consul.Target) bool { return o.String() == t.String() })
}

// refuseMissing is an error where a target that was not declared before has no namespace. Nothing was changed then.
func refuseMissing(ctx context.Context, a *consul.ACL, targets, before []consul.Target) error {
	for _, t := range targets {
		if !isAmong(before, t) && a.Deliveries.NamespaceGone(ctx, t.Namespace) {
			return &consul.NamespaceError{Target: t}
		}
	}
	return nil
}

// taken reports whether what holds a key keeps this resource from it: somebody
// else's Secret, or a token that lives and is not this one, the one that it was
// about to be replaced by, or what an interrupted create left.
func (*TokenResource) taken(ctx context.Context, a *consul.ACL, h consul.Holder, state tokenModel) bool {
	own := state.AccessorID.ValueString()
	switch {
	case h.Foreign:
		return true
	case h.AccessorID == "" || h.AccessorID == own || (own != "" && h.AccessorID == consul.Successor(own)):
		return false
	case h.Cluster != a.Cluster().ID():
		return true
	}
	holder, err := a.Tokens.Get(ctx, h.AccessorID)
	return !errors.Is(err, consul.ErrNotFound) && (err != nil || holder.Description != consul.Unfinished)
}

// Create implements resource.Resource.
func (r *TokenResource) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	var m, config tokenModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	timeout, diags := m.Timeouts.Create(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	targets, _ := m.targets(ctx, &resp.Diagnostics)
	wanted := m.toAPI(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := r.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	if m.isAnonymous() { // it is always there
		token, err := a.Tokens.Update(ctx, wanted)
		if err != nil {
			resp.Diagnostics.Append(r.failed("change", "", err))
			return
		}
		r.save(ctx, m, *token, nil, &resp.State, resp.Identity, &resp.Diagnostics)
		return
	}
	if _, problem := checkExpiry(config.ExpirationTime, time.Now()); problem != "" {
		resp.Diagnostics.Append(attr.Error(path.Root("expiration_time"), "No token can expire then", problem))
		return
	}
	if err := refuseMissing(ctx, a, targets, nil); err != nil {
		resp.Diagnostics.Append(r.failed("create", "", err))
		return
	}
	var err error
	switch {
	case wanted.AccessorID == "" && len(targets) > 0:
		wanted.AccessorID, err = r.accessorFor(ctx, a, targets[0])
	case wanted.AccessorID == "":
		wanted.AccessorID = uuid.NewString()
	}
	wanted.SecretID = secretID(config)
	var token *api.ACLToken
	if err == nil {
		token, err = r.create(ctx, a, wanted, targets, !config.SecretID.IsNull())
	}
	if errors.Is(err, consul.ErrExists) && m.AccessorID.IsUnknown() && config.SecretID.IsNull() {
		// Consul keeps an expired token for a while, which it says does not exist.
		wanted.AccessorID = uuid.NewString()
		token, err = r.create(ctx, a, wanted, targets, false)
	}
	if err != nil {
		resp.Diagnostics.Append(r.failed("create", r.importCommand(m.Cluster.ValueString(), wanted.AccessorID), err))
		return
	}
	r.save(ctx, m, *token, targets, &resp.State, resp.Identity, &resp.Diagnostics)
	saveExpiryDeclared(ctx, config, resp.Private, &resp.Diagnostics)
	saveLinks(ctx, resp.Private, &resp.Diagnostics, m.Policies, m.Roles)
}

// accessorFor is the accessor ID that follows from a target, unless a token has
// it that was delivered there once and is in use elsewhere now.
func (*TokenResource) accessorFor(ctx context.Context, a *consul.ACL, t consul.Target) (string, error) {
	accessorID := a.Cluster().AccessorFor(t)
	existing, err := a.Tokens.Read(ctx, accessorID)
	switch {
	case errors.Is(err, consul.ErrNotFound):
		return accessorID, nil
	case err == nil && existing.Description != consul.Unfinished:
		return uuid.NewString(), nil
	}
	return accessorID, err
}

// create makes a token and delivers it. Until that is done its description says
// so: whatever interrupts it, the next call goes on with the same token.
func (r *TokenResource) create(ctx context.Context, a *consul.ACL, wanted api.ACLToken, targets []consul.Target, insist bool) (*api.ACLToken, error) {
	unfinished := wanted
	unfinished.Description = consul.Unfinished
	token, err := a.EnsureToken(ctx, unfinished, insist, func(existing api.ACLToken) bool { return existing.Description == consul.Unfinished })
	if err != nil {
		return nil, err
	}
	missing, err := r.deliver(ctx, a, targets, *token, "")
	if err == nil && len(missing) > 0 {
		err = &consul.NamespaceError{Target: missing[0]}
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

// deliver brings a token into all targets once every server knows it. It returns those that have no namespace: they are
// no reason not to deliver to the others.
func (r *TokenResource) deliver(ctx context.Context, a *consul.ACL, targets []consul.Target, token api.ACLToken, previous string) (missing []consul.Target, err error) {
	if len(targets) == 0 {
		return nil, nil
	}
	if token.SecretID == consul.HiddenSecretID {
		return nil, &consul.PermissionError{Permission: "acl:write"} // only then Consul tells a secret ID
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
		if errors.As(err, new(*consul.NamespaceError)) {
			missing = append(missing, t)
			continue
		}
		errs = append(errs, err)
	}
	return missing, errors.Join(errs...)
}

// formerHolder is the accessor ID whose place in a target may be taken: that of
// the token that is replaced, or one that is gone, or that an abandoned rotation
// put there.
func (r *TokenResource) formerHolder(ctx context.Context, a *consul.ACL, t consul.Target, accessorID, previous string) (string, error) {
	h, err := a.Deliveries.Holder(ctx, t)
	if err != nil || h.Foreign || h.AccessorID == "" || h.AccessorID == accessorID || h.AccessorID == previous {
		return previous, err
	}
	if r.taken(ctx, a, h, tokenModel{AccessorID: types.StringValue(accessorID)}) {
		return previous, nil
	}
	return h.AccessorID, nil
}

// undo takes back what a create made that cannot end.
func (*TokenResource) undo(ctx context.Context, a *consul.ACL, targets []consul.Target, accessorID string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	var errs []error
	for _, t := range targets {
		errs = append(errs, a.Deliveries.Withdraw(ctx, t, accessorID))
	}
	return errors.Join(append(errs, a.Tokens.Delete(ctx, accessorID))...)
}

// Read implements resource.Resource.
func (r *TokenResource) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	var m tokenModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	if resp.Diagnostics.HasError() {
		return
	}
	imported := m.AccessorID.IsNull()
	a := r.reading(ctx, m.Cluster, m.ID, imported, resp)
	if a == nil {
		return
	}
	if imported {
		if m.ID.ValueString() == "anonymous" {
			m.ID = types.StringValue(consul.AnonymousAccessorID)
		}
		if own, err := a.IsOwnToken(ctx, m.ID.ValueString()); err == nil && own {
			resp.Diagnostics.AddError("Cannot import the token", fmt.Sprintf("The token %s is the management token, with which the provider works. It belongs to consul_k8s_acl_bootstrap.", m.ID.ValueString()))
			return
		}
		if a.Cluster().IsAgentToken(m.ID.ValueString()) {
			resp.Diagnostics.AddError("Cannot import the token", fmt.Sprintf(
				"The token %s is the agent token of a server, which could not keep its own entries in the catalog up to date without it. It belongs to consul_k8s_acl_bootstrap.", m.ID.ValueString()))
			return
		}
	}
	entry, err := a.Tokens.Get(ctx, m.ID.ValueString())
	if errors.Is(err, consul.ErrNotFound) && !imported {
		// A rotation may have been interrupted after it revoked the old token.
		if successor, successorErr := a.Tokens.Get(ctx, consul.Successor(m.ID.ValueString())); successorErr == nil {
			entry, err = successor, nil
		}
	}
	if err != nil {
		if r.readFailed(err, imported, &resp.Diagnostics) {
			resp.State.RemoveResource(ctx)
		}
		return
	}
	a.Tokens.Own(entry.AccessorID)
	if imported {
		found, all, err := a.Deliveries.Find(ctx, entry.AccessorID, entry.SecretID)
		if err != nil {
			resp.Diagnostics.AddError("Cannot import the token", err.Error()+".")
			return
		}
		if !all {
			resp.Diagnostics.AddWarning("Not all Secrets were looked at", fmt.Sprintf(
				"This credential may not list the Secrets of all namespaces: those that hold the token %s were looked for in the namespace of the cluster alone. Others show as a change in the next plan, which delivers to them once more.", entry.AccessorID))
		}
		m.fromFound(ctx, found, &resp.Diagnostics)
	}
	targets, _ := m.targets(ctx, &resp.Diagnostics)
	targets = slices.DeleteFunc(targets, func(t consul.Target) bool {
		delivered, err := a.Deliveries.Delivered(ctx, t, entry.AccessorID, entry.SecretID)
		if err != nil {
			resp.Diagnostics.AddWarning("A Secret was not read", "What the state says of it stands: "+err.Error()+".")
			return false
		}
		return !delivered
	})
	r.save(ctx, m, api.ACLToken{
		AccessorID: entry.AccessorID, Description: entry.Description, Local: entry.Local, CreateTime: entry.CreateTime, ExpirationTime: entry.ExpirationTime,
		Policies: entry.Policies, Roles: entry.Roles, ServiceIdentities: entry.ServiceIdentities, NodeIdentities: entry.NodeIdentities, TemplatedPolicies: entry.TemplatedPolicies,
	}, targets, &resp.State, resp.Identity, &resp.Diagnostics)
}

// Update implements resource.Resource. A rotation that is interrupted goes on:
// the accessor ID of the new token follows from that of the old one, which the
// state holds until the old one is revoked.
func (r *TokenResource) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	var m, state, config tokenModel
	resp.Diagnostics.Append(req.Plan.Get(ctx, &m)...)
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	resp.Diagnostics.Append(req.Config.Get(ctx, &config)...)
	timeout, diags := m.Timeouts.Update(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	targets, _ := m.targets(ctx, &resp.Diagnostics)
	before, _ := state.targets(ctx, &resp.Diagnostics)
	grace := m.gracePeriod()
	rotate := m.AccessorID.IsUnknown()
	wanted := m.toAPI(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	timeout += grace
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := r.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	if err := refuseMissing(ctx, a, targets, before); err != nil {
		resp.Diagnostics.Append(r.failed("change", "", err))
		return
	}
	old := state.AccessorID.ValueString()
	if rotate && state.SecretIDVersion.IsNull() && r.hasChosen(ctx, state, config) { // what the plan did not know
		planned, before := m, state
		planned.ExpirationTime, before.SecretIDVersion = config.ExpirationTime, m.SecretIDVersion
		_, reason := rotationDue(planned, before, declaredExpiry(ctx, req.Private, &resp.Diagnostics), time.Now())
		rotate = reason != ""
	}
	if rotate {
		if _, problem := checkExpiry(config.ExpirationTime, time.Now()); problem != "" {
			resp.Diagnostics.Append(attr.Error(path.Root("expiration_time"), "No token can expire then", problem))
			return
		}
	}
	var token *api.ACLToken
	var missing []consul.Target
	var err error
	if rotate {
		wanted.AccessorID, wanted.SecretID = consul.Successor(old), secretID(config)
		token, missing, err = r.rotate(ctx, a, wanted, targets, old, grace, !config.SecretID.IsNull())
	} else {
		wanted.AccessorID = old
		token, missing, err = r.change(ctx, a, wanted, targets, grace)
	}
	if err != nil {
		resp.Diagnostics.Append(r.failed("change", "", err))
		return
	}
	delivered := slices.DeleteFunc(slices.Clone(targets), func(t consul.Target) bool { return isAmong(missing, t) })
	if !m.DeliveredTo.IsUnknown() { // the plan knew nothing of what is missing; the next refresh sees it
		delivered = targets
		for _, t := range missing {
			warnOfNamespace(t, true, &resp.Diagnostics)
		}
	}
	for _, t := range before {
		if !isAmong(targets, t) {
			err = errors.Join(err, withdraw(ctx, a, t, old, token.AccessorID))
		}
	}
	if err != nil {
		// The Secrets that are left must not be forgotten: the next apply tries again.
		m.Secret, m.Secrets = state.Secret, state.Secrets
		resp.Diagnostics.Append(r.failed("change", "", err))
	}
	r.save(ctx, m, *token, delivered, &resp.State, resp.Identity, &resp.Diagnostics)
	saveExpiryDeclared(ctx, config, resp.Private, &resp.Diagnostics)
	saveLinks(ctx, resp.Private, &resp.Diagnostics, m.Policies, m.Roles)
}

// withdraw takes a token out of a target, whichever of the accessor IDs it is there with, or one that was replaced and is
// gone.
func withdraw(ctx context.Context, a *consul.ACL, t consul.Target, accessorIDs ...string) error {
	if h, err := a.Deliveries.Holder(ctx, t); err == nil && !h.Foreign && h.AccessorID != "" && h.Cluster == a.Cluster().ID() {
		if _, err := a.Tokens.Get(ctx, h.AccessorID); errors.Is(err, consul.ErrNotFound) {
			accessorIDs = append(accessorIDs, h.AccessorID)
		}
	}
	var errs []error
	for _, id := range accessorIDs {
		errs = append(errs, a.Deliveries.Withdraw(ctx, t, id))
	}
	return errors.Join(errs...)
}

// change changes a token in place and delivers it where it lacks. What an
// abandoned rotation left is removed, after the grace period: it may be in use.
func (r *TokenResource) change(ctx context.Context, a *consul.ACL, wanted api.ACLToken, targets []consul.Target, grace time.Duration) (token *api.ACLToken, missing []consul.Target, err error) {
	token, err = a.Tokens.Update(ctx, wanted)
	if err != nil {
		return nil, nil, err
	}
	if missing, err = r.deliver(ctx, a, targets, *token, ""); err != nil {
		return nil, nil, err
	}
	abandoned := consul.Successor(wanted.AccessorID)
	if _, err := a.Tokens.Get(ctx, abandoned); err == nil {
		return token, missing, revoke(ctx, a, abandoned, grace)
	}
	return token, missing, nil
}

// rotate delivers a new token, waits until those who read the Secrets have had
// the time to notice, and revokes the old one.
func (r *TokenResource) rotate(ctx context.Context, a *consul.ACL, wanted api.ACLToken, targets []consul.Target, old string, grace time.Duration, insist bool) (token *api.ACLToken, missing []consul.Target, err error) {
	token, err = a.EnsureToken(ctx, wanted, insist, func(api.ACLToken) bool { return true }) // nobody else makes a successor
	if err != nil {
		return nil, nil, err
	}
	if missing, err = r.deliver(ctx, a, targets, *token, old); err != nil {
		return nil, nil, err
	}
	return token, missing, revoke(ctx, a, old, grace)
}

// revoke deletes a token after its grace period.
func revoke(ctx context.Context, a *consul.ACL, accessorID string, grace time.Duration) error {
	over := time.Now().Add(grace)
	err := kube.Wait(ctx, "the grace period of the old token", time.Second, func(context.Context) (string, error) {
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

// Delete implements resource.Resource. The anonymous token cannot be deleted:
// it loses its rights.
func (r *TokenResource) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var m tokenModel
	resp.Diagnostics.Append(req.State.Get(ctx, &m)...)
	timeout, diags := m.Timeouts.Delete(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	targets, _ := m.targets(ctx, &resp.Diagnostics)
	if resp.Diagnostics.HasError() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := r.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	accessor := m.AccessorID.ValueString()
	var err error
	if m.isAnonymous() {
		_, err = a.Tokens.Update(ctx, api.ACLToken{AccessorID: accessor, Description: "Anonymous Token"})
	} else {
		err = r.remove(ctx, a, targets, accessor)
	}
	if err != nil && !errors.Is(err, consul.ErrNoCluster) {
		resp.Diagnostics.Append(r.failed("delete", "", err))
	}
}

// remove takes a token out of its Secrets and revokes it, in this order: the state knows the resource as long as there is
// the token, so that whatever is left by a failure is known to the next apply. Where the management token may not revoke it,
// the Secrets stay: the workloads still use it.
func (*TokenResource) remove(ctx context.Context, a *consul.ACL, targets []consul.Target, accessor string) error {
	if err := a.Authorize(ctx, "write"); err != nil && !errors.Is(err, consul.ErrNoCluster) {
		return err
	}
	successor := consul.Successor(accessor) // of a rotation that was interrupted
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

func (r *TokenResource) save(ctx context.Context, m tokenModel, token api.ACLToken, delivered []consul.Target, state, identity store, diags *diag.Diagnostics) {
	m.fromAPI(ctx, token, diags)
	m.DeliveredTo = targetNames(ctx, delivered, diags)
	diags.Append(state.Set(ctx, &m)...)
	diags.Append(identity.Set(ctx, objectIdentity{Cluster: m.Cluster, ID: m.ID})...)
	r.clients.Claims.MarkRead(claimOf(r.kind, m.Cluster.ValueString(), m.ID.ValueString()))
}
