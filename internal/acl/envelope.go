package acl

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/hashicorp/terraform-plugin-framework-timeouts/resource/timeouts"
	"github.com/hashicorp/terraform-plugin-framework/diag"
	"github.com/hashicorp/terraform-plugin-framework/resource"
	"github.com/hashicorp/terraform-plugin-framework/types"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consulacl"
)

// objectTimeout is how long a change of an ACL object may wait for Consul.
const objectTimeout = 5 * time.Minute

// errReported says that the diagnostics already say what failed, or why a refresh leaves the state as it is.
var errReported = errors.New("the diagnostics say why")

// envelope is the resource of a type of ACL object, except for its schema. It holds what all types do in the same way: the order of
// the steps of a plan, an apply, and a refresh, and what the errors of each step mean. M is the model of the type, and P is *M.
type envelope[M any, P model[M]] struct {
	object
	own actions[M]
}

// objectResource is what the resources of all ACL objects implement.
type objectResource interface {
	resource.ResourceWithConfigure
	resource.ResourceWithModifyPlan
	resource.ResourceWithImportState
	resource.ResourceWithIdentity
}

// actions are what a type of ACL object does in its own way. An action that fails with errReported has added the diagnostic.
type actions[M any] interface {
	// isReplaced reports whether a change replaces the object, which is then planned again as a new one.
	isReplaced(plan, state M) bool
	// plan claims what only one resource may declare, and completes the plan. It works without Consul. done says that there is
	// nothing to check.
	plan(ctx context.Context, p *planning[M]) (done bool)
	// check reports what would make the apply fail. It only runs if something changes and if Consul answers.
	check(ctx context.Context, a *consulacl.ACL, p *planning[M])
	// planDestroy warns about what loses its rights when the object is deleted.
	planDestroy(ctx context.Context, state M, diags *diag.Diagnostics)
	// write creates or changes the object, and puts what Consul then has into c.plan.
	write(ctx context.Context, c *change[M]) error
	// read puts what Consul has into r.model. It marks the object as one that a resource owns (Objects.Own).
	read(ctx context.Context, r *refresh[M]) error
	// delete deletes the object.
	delete(ctx context.Context, a *consulacl.ACL, m M, diags *diag.Diagnostics) error
}

// objectModel contains the attributes that all ACL objects have.
type objectModel struct {
	ID          types.String   `tfsdk:"id"`
	Cluster     types.String   `tfsdk:"cluster"`
	Description types.String   `tfsdk:"description"`
	Timeouts    timeouts.Value `tfsdk:"timeouts"`
}

func (m *objectModel) common() *objectModel { return m }

// serial is null for objects of which several may be created and deleted at the same time.
func (*objectModel) serial() types.String { return types.StringNull() }

// gracePeriod is how long an update waits even if Consul answers at once.
func (*objectModel) gracePeriod() time.Duration { return 0 }

// model is the model of a type of ACL object, which embeds objectModel.
type model[M any] interface {
	*M
	common() *objectModel
	// serial is the name for object.alone.
	serial() types.String
	gracePeriod() time.Duration
}

// planning is the plan of one object.
type planning[M any] struct {
	// state is empty if the object does not exist.
	plan, state, config M
	exists              bool
	// replaces is the ID of the object that this one replaces.
	replaces string
	req      resource.ModifyPlanRequest
	resp     *resource.ModifyPlanResponse
	diags    *diag.Diagnostics
}

// set sets the plan.
func (p *planning[M]) set(ctx context.Context) { p.diags.Append(p.resp.Plan.Set(ctx, &p.plan)...) }

// keep plans no change if the plan, written in another way, is the state.
func (p *planning[M]) keep(ctx context.Context, rewritten M) {
	unchanged := p.resp.Plan
	p.diags.Append(unchanged.Set(ctx, &rewritten)...)
	if unchanged.Raw.Equal(p.req.State.Raw) {
		p.resp.Plan = unchanged
	}
}

// change is the create or the update of one object.
type change[M any] struct {
	acl *consulacl.ACL
	// plan becomes the state. state is empty if the object does not exist.
	plan, state, config M
	exists              bool
	// importAs is the name or the ID by which an object is imported that prevents the create, or "".
	importAs string
	private  private
	diags    *diag.Diagnostics
}

// put creates or changes an object, and returns it as the leader reads it.
func put[M, T, L any](ctx context.Context, c *change[M], objects *consulacl.Objects[T, L], wanted T) (*T, error) {
	switch {
	case c.diags.HasError():
		return nil, errReported
	case c.exists:
		return objects.Update(ctx, wanted)
	}
	return objects.Create(ctx, wanted)
}

// fail reports what failed.
func (c *change[M]) fail(d diag.Diagnostic) error {
	c.diags.Append(d)
	return errReported
}

// refresh is the refresh of one object, or the end of its import.
type refresh[M any] struct {
	acl *consulacl.ACL
	// model is the state. After an import, it only has the cluster and what the user wrote as the ID.
	model    M
	imported bool
	private  private
	diags    *diag.Diagnostics
}

// ModifyPlan implements resource.ResourceWithModifyPlan.
func (e *envelope[M, P]) ModifyPlan(ctx context.Context, req resource.ModifyPlanRequest, resp *resource.ModifyPlanResponse) {
	p := &planning[M]{req: req, resp: resp, diags: &resp.Diagnostics, exists: !req.State.Raw.IsNull()}
	if p.exists {
		p.diags.Append(req.State.Get(ctx, &p.state)...)
	}
	state := *P(&p.state).common()
	if req.Plan.Raw.IsNull() {
		e.leave(state.Cluster, state.ID)
		e.own.planDestroy(ctx, p.state, p.diags)
		return
	}
	p.diags.Append(req.Plan.Get(ctx, &p.plan)...)
	p.diags.Append(req.Config.Get(ctx, &p.config)...)
	if p.diags.HasError() {
		return
	}
	defer e.warnOnce(state.Cluster, state.ID, p.diags)
	if p.exists && e.own.isReplaced(p.plan, p.state) {
		e.leave(state.Cluster, state.ID)
		e.own.planDestroy(ctx, p.state, p.diags)
		return
	}
	if done := e.own.plan(ctx, p); done || resp.Plan.Raw.Equal(req.State.Raw) {
		return
	}
	if a := e.forPlan(ctx, P(&p.plan).common().Cluster); e.mayWrite(ctx, a, p.diags) {
		e.own.check(ctx, a, p)
	}
}

// Create implements resource.Resource.
func (e *envelope[M, P]) Create(ctx context.Context, req resource.CreateRequest, resp *resource.CreateResponse) {
	c := &change[M]{private: resp.Private, diags: &resp.Diagnostics}
	c.diags.Append(req.Plan.Get(ctx, &c.plan)...)
	c.diags.Append(req.Config.Get(ctx, &c.config)...)
	m, serial := P(&c.plan).common(), P(&c.plan).serial()
	timeout, diags := m.Timeouts.Create(ctx, objectTimeout)
	c.diags.Append(diags...)
	if c.diags.HasError() {
		return
	}
	release := e.alone(ctx, m.Cluster, serial, c.diags)
	if release == nil {
		return
	}
	defer release()
	if !e.apply(ctx, c, "create", timeout) {
		return
	}
	if !serial.IsNull() {
		e.keep(m.Cluster, m.ID)
	}
	e.save(ctx, &c.plan, &resp.State, resp.Identity, c.diags)
}

// Update implements resource.Resource.
func (e *envelope[M, P]) Update(ctx context.Context, req resource.UpdateRequest, resp *resource.UpdateResponse) {
	c := &change[M]{exists: true, private: resp.Private, diags: &resp.Diagnostics}
	c.diags.Append(req.Plan.Get(ctx, &c.plan)...)
	c.diags.Append(req.State.Get(ctx, &c.state)...)
	c.diags.Append(req.Config.Get(ctx, &c.config)...)
	timeout, diags := P(&c.plan).common().Timeouts.Update(ctx, objectTimeout)
	c.diags.Append(diags...)
	if c.diags.HasError() {
		return
	}
	if e.apply(ctx, c, "change", timeout+P(&c.plan).gracePeriod()) {
		e.save(ctx, &c.plan, &resp.State, resp.Identity, c.diags)
	}
}

// apply connects and writes. It reports whether the object is written.
func (e *envelope[M, P]) apply(ctx context.Context, c *change[M], doing string, timeout time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cluster := P(&c.plan).common().Cluster
	if c.acl = e.changing(ctx, cluster, c.diags); c.acl == nil {
		return false
	}
	err := e.own.write(ctx, c)
	if err == nil || errors.Is(err, errReported) {
		return err == nil
	}
	importCommand := ""
	if c.importAs != "" && !c.exists {
		importCommand = e.importCommand(cluster.ValueString(), c.importAs)
	}
	c.diags.Append(e.failed(doing, importCommand, err))
	return false
}

// Read implements resource.Resource.
func (e *envelope[M, P]) Read(ctx context.Context, req resource.ReadRequest, resp *resource.ReadResponse) {
	r := &refresh[M]{private: resp.Private, diags: &resp.Diagnostics}
	r.diags.Append(req.State.Get(ctx, &r.model)...)
	if r.diags.HasError() {
		return
	}
	m := P(&r.model).common()
	r.imported = m.Description.IsNull()
	if r.acl = e.reading(ctx, m.Cluster, m.ID, r.imported, resp); r.acl == nil {
		return
	}
	if err := e.own.read(ctx, r); err != nil {
		if e.readFailed(err, r.imported, r.diags) {
			resp.State.RemoveResource(ctx)
		}
		return
	}
	e.save(ctx, &r.model, &resp.State, resp.Identity, r.diags)
}

// Delete implements resource.Resource. It deletes nothing if another resource of this run has created the object (keep), or if the
// cluster does not exist.
func (e *envelope[M, P]) Delete(ctx context.Context, req resource.DeleteRequest, resp *resource.DeleteResponse) {
	var state M
	resp.Diagnostics.Append(req.State.Get(ctx, &state)...)
	m := P(&state).common()
	timeout, diags := m.Timeouts.Delete(ctx, objectTimeout)
	resp.Diagnostics.Append(diags...)
	if resp.Diagnostics.HasError() {
		return
	}
	release := e.alone(ctx, m.Cluster, P(&state).serial(), &resp.Diagnostics)
	if release == nil {
		return
	}
	defer release()
	if e.isKept(m.Cluster, m.ID) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	a := e.changing(ctx, m.Cluster, &resp.Diagnostics)
	if a == nil {
		return
	}
	err := e.own.delete(ctx, a, state, &resp.Diagnostics)
	if err != nil && !errors.Is(err, errReported) && !errors.Is(err, consulacl.ErrNoCluster) {
		resp.Diagnostics.Append(e.failed("delete", "", err))
	}
}

// store is the state or the identity of a response.
type store interface {
	Set(ctx context.Context, val any) diag.Diagnostics
}

// save stores what was read, after a write as after a refresh.
func (e *envelope[M, P]) save(ctx context.Context, read P, state, identity store, diags *diag.Diagnostics) {
	m := read.common()
	diags.Append(state.Set(ctx, read)...)
	diags.Append(identity.Set(ctx, objectIdentity{Cluster: m.Cluster, ID: m.ID})...)
	e.clients.Claims.MarkRead(claimOf(e.kind, m.Cluster.ValueString(), m.ID.ValueString()))
}

// private is the private state of a resource.
type private interface {
	GetKey(ctx context.Context, key string) ([]byte, diag.Diagnostics)
	SetKey(ctx context.Context, key string, value []byte) diag.Diagnostics
}

// saved returns the value of a key of the private state, or the zero value if it has no value.
func saved[T any](ctx context.Context, private private, key string, diags *diag.Diagnostics) (value T) {
	raw, d := private.GetKey(ctx, key)
	diags.Append(d...)
	if len(raw) > 0 {
		_ = json.Unmarshal(raw, &value) // anything else was not written here
	}
	return value
}

// saveAs stores the value of a key of the private state.
func saveAs(ctx context.Context, private private, key string, value any, diags *diag.Diagnostics) {
	if raw, err := json.Marshal(value); err == nil {
		diags.Append(private.SetKey(ctx, key, raw)...)
	}
}
