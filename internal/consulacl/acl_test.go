package consulacl

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/consul"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/kube"
	"github.com/consul-k8s/terraform-provider-consul-k8s/internal/server"
)

// thing is an object of an invented type, and its own entry in the list.
type thing struct{ ID, Name, Content string }

// fakeConsul stores things and answers like Consul.
type fakeConsul struct {
	things *Objects[thing, thing]
	kube   *fake.Clientset
	// listing, if set, is called by each list after it has read the things.
	listing func(n int)
	// failing, if set, returns the answer of a call that is not carried out.
	failing func(call string) error
	// lost, if set, returns the error of a call that was carried out, and whose answer is lost.
	lost func(call string) error

	mu     sync.Mutex
	stored map[string]thing
	calls  map[string]int
	nextID int
}

func answer(code int, body string) error { return api.StatusError{Code: code, Body: body} }

var (
	errNoLeader     = answer(500, "No cluster leader")
	errUnknownToken = answer(403, "rpc error making call: ACL not found")
	errThingMissing = answer(404, "Requested thing does not exist: ACL not found")
)

// newFakeConsul is a cluster with one running server.
func newFakeConsul(t *testing.T) *fakeConsul {
	t.Helper()
	secretLabels := server.OwnerLabels("consul")
	secretLabels[server.LabelComponent] = ComponentBootstrap
	objects := []runtime.Object{
		&appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.StatefulSetName("consul")}},
		&corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: server.PodName("consul", 0), UID: "pod", Labels: server.SelectorLabels("consul")},
			Status:     corev1.PodStatus{Phase: corev1.PodRunning},
		},
		&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{
				Namespace:   "ns",
				Name:        "token",
				Labels:      secretLabels,
				Annotations: map[string]string{annotationKey: "token"},
			},
			Data: map[string][]byte{"token": []byte("first")},
		},
	}
	f := &fakeConsul{kube: fake.NewClientset(objects...), stored: map[string]thing{}, calls: map[string]int{}}
	a := Of(consul.NewConnector(&kube.Client{Interface: f.kube}).Cluster("ns", "consul"))
	f.things = &Objects[thing, thing]{
		acl: a, kind: "thing", owned: map[string]bool{},
		id: func(o thing) string { return o.ID }, entryID: func(o thing) string { return o.ID },
		entry: func(o thing) thing { return o },
		same:  func(a, b thing) bool { return a.Name == b.Name && a.Content == b.Content },
		find: func(_ context.Context, _ *api.Client, wanted thing) (found *thing, err error) {
			err = f.call("find", func() error { found = f.named(wanted.Name); return nil })
			return found, err
		},
		list: func(ctx context.Context, _ *api.Client) (list []thing, err error) {
			n := 0
			err = f.call("list", func() error {
				for _, id := range slices.Sorted(maps.Keys(f.stored)) {
					list = append(list, f.stored[id])
				}
				n = f.calls["list"]
				return nil
			})
			if f.listing != nil {
				f.listing(n)
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return list, err
		},
		read: func(_ context.Context, _ *api.Client, id string) (read *thing, err error) {
			err = f.call("read", func() error {
				o, ok := f.stored[id]
				if !ok {
					return errThingMissing
				}
				read = &o
				return nil
			})
			return read, err
		},
		create: func(_ context.Context, _ *api.Client, o *thing) (made *thing, err error) {
			err = f.call("create", func() error {
				if f.named(o.Name) != nil {
					return answer(500, fmt.Sprintf("Invalid Thing: A Thing with Name %q already exists", o.Name))
				}
				f.nextID++
				m := *o
				m.ID = fmt.Sprintf("id-%d", f.nextID)
				f.stored[m.ID] = m
				made = &m
				return nil
			})
			return made, err
		},
		update: func(_ context.Context, _ *api.Client, o *thing) (*thing, error) {
			return o, f.call("update", func() error {
				if _, ok := f.stored[o.ID]; !ok {
					return answer(500, "cannot find thing "+o.ID)
				}
				if other := f.named(o.Name); other != nil && other.ID != o.ID {
					return answer(500, fmt.Sprintf("Invalid Thing: A thing with name %q already exists", o.Name))
				}
				f.stored[o.ID] = *o
				return nil
			})
		},
		remove: func(_ context.Context, _ *api.Client, id string) error {
			return f.call("remove", func() error {
				if _, ok := f.stored[id]; !ok {
					return answer(404, "Cannot find thing to delete")
				}
				delete(f.stored, id)
				return nil
			})
		},
	}
	return f
}

// call carries out a call, unless it is to fail.
func (f *fakeConsul) call(name string, do func() error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls[name]++
	if f.failing != nil {
		if err := f.failing(name); err != nil {
			return err
		}
	}
	err := do()
	if f.lost != nil {
		if lost := f.lost(name); lost != nil {
			return lost
		}
	}
	return err
}

// named returns the thing with a name. The caller holds the lock.
func (f *fakeConsul) named(name string) *thing {
	for _, o := range f.stored {
		if o.Name == name {
			return &o
		}
	}
	return nil
}

func (f *fakeConsul) count(call string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[call]
}

// put stores things without Objects, like somebody else.
func (f *fakeConsul) put(things ...thing) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range things {
		f.stored[o.ID] = o
	}
}

func (f *fakeConsul) setToken(t *testing.T, token string) {
	t.Helper()
	s, err := f.kube.CoreV1().Secrets("ns").Get(t.Context(), "token", metav1.GetOptions{})
	if err == nil {
		s.Data["token"] = []byte(token)
		_, err = f.kube.CoreV1().Secrets("ns").Update(t.Context(), s, metav1.UpdateOptions{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fakeConsul) mustList(t *testing.T) []thing {
	t.Helper()
	list, err := f.things.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// once returns err as the answer to the first call of a name.
func once(call string, err error) func(string) error {
	done := false
	return func(name string) error {
		if name != call || done {
			return nil
		}
		done = true
		return err
	}
}

// always returns err as the answer to every call of these names.
func always(err error, calls ...string) func(string) error {
	return func(name string) error {
		if slices.Contains(calls, name) {
			return err
		}
		return nil
	}
}

func names(list []thing) (out []string) {
	for _, o := range list {
		out = append(out, o.Name)
	}
	slices.Sort(out)
	return out
}

func TestObjects_concurrentReadersShareOneList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		f.put(thing{ID: "1", Name: "a"})
		release := make(chan struct{})
		f.listing = func(int) { <-release }
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if got := f.mustList(t); len(got) != 1 {
					t.Errorf("got %v", got)
				}
			})
		}
		synctest.Wait()
		close(release)
		wg.Wait()
		f.mustList(t)
		if n := f.count("list"); n != 1 {
			t.Errorf("Consul was asked %d times, want once", n)
		}
	})
}

// A reader may check the cache just before a list ends, and ask just after.
func TestObjects_readersUseAListThatJustEnded(t *testing.T) {
	for range 500 {
		f := newFakeConsul(t)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() { f.mustList(t) })
		}
		wg.Wait()
		if n := f.count("list"); n != 1 {
			t.Fatalf("Consul was asked %d times, want once", n)
		}
	}
}

func TestObjects_aListOutlivesTheReaderThatStartedIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		f.put(thing{ID: "1", Name: "a"})
		release := make(chan struct{})
		f.listing = func(int) { <-release }
		ctx, cancel := context.WithCancel(t.Context())
		var first error
		var second []thing
		var wg sync.WaitGroup
		wg.Go(func() { _, first = f.things.List(ctx) })
		synctest.Wait()
		wg.Go(func() { second = f.mustList(t) })
		synctest.Wait()
		cancel()
		synctest.Wait()
		close(release)
		wg.Wait()
		if !errors.Is(first, context.Canceled) {
			t.Errorf("the reader that gave up got %v", first)
		}
		if n := f.count("list"); n != 1 || len(second) != 1 {
			t.Errorf("the other reader got %v after %d lists", second, n)
		}
	})
}

func TestObjects_aListFromBeforeAWriteIsOutdated(t *testing.T) {
	writes := map[string]struct {
		write func(context.Context, *fakeConsul) error
		want  []string // what readers see after the write
	}{
		"create": {func(ctx context.Context, f *fakeConsul) error {
			_, err := f.things.Create(ctx, thing{Name: "b"})
			return err
		}, []string{"a", "b"}},
		"update": {func(ctx context.Context, f *fakeConsul) error {
			_, err := f.things.Update(ctx, thing{ID: "1", Name: "renamed"})
			return err
		}, []string{"renamed"}},
		"delete": {func(ctx context.Context, f *fakeConsul) error { return f.things.Delete(ctx, "1") }, nil},
		"forget": {func(_ context.Context, f *fakeConsul) error {
			f.put(thing{ID: "2", Name: "b"})
			f.things.forget()
			return nil
		}, []string{"a", "b"}},
	}
	for name, tt := range writes {
		for _, firstEnds := range []string{"before the second", "after the second"} {
			t.Run(name+"/"+firstEnds, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					f := newFakeConsul(t)
					f.put(thing{ID: "1", Name: "a"})
					release := []chan struct{}{nil, make(chan struct{}), make(chan struct{})}
					f.listing = func(n int) {
						if n < len(release) {
							<-release[n]
						}
					}
					var early, late []thing
					var wg sync.WaitGroup
					wg.Go(func() { early = f.mustList(t) })
					synctest.Wait() // the list has read the things, and hangs
					if err := tt.write(t.Context(), f); err != nil {
						t.Fatal(err)
					}
					wg.Go(func() { late = f.mustList(t) })
					synctest.Wait()
					if firstEnds == "before the second" {
						close(release[1])
						synctest.Wait()
						close(release[2])
					} else {
						close(release[2])
						synctest.Wait()
						close(release[1])
					}
					wg.Wait()
					if got := names(early); !slices.Equal(got, []string{"a"}) {
						t.Errorf("a reader from before the write got %v", got)
					}
					if got := names(late); !slices.Equal(got, tt.want) {
						t.Errorf("a reader from after the write got %v, want %v", got, tt.want)
					}
					if got := names(f.mustList(t)); !slices.Equal(got, tt.want) {
						t.Errorf("the cached list is %v, want %v", got, tt.want)
					}
					if n := f.count("list"); n != 2 {
						t.Errorf("%d lists, want 2", n)
					}
				})
			})
		}
	}
}

func TestObjects_writesShowInTheListWithoutAskingAgain(t *testing.T) {
	f := newFakeConsul(t)
	f.put(thing{ID: "1", Name: "a"}, thing{ID: "2", Name: "b"}, thing{ID: "3", Name: "c"})
	ctx := t.Context()
	type held struct{ list, copied []thing }
	var before []held
	see := func(want ...string) {
		t.Helper()
		list := f.mustList(t)
		if got := names(list); !slices.Equal(got, want) {
			t.Errorf("the list is %v, want %v", got, want)
		}
		before = append(before, held{list, slices.Clone(list)})
	}
	see("a", "b", "c")
	if err := f.things.Delete(ctx, "1"); err != nil {
		t.Fatal(err)
	}
	see("b", "c")
	made, err := f.things.Create(ctx, thing{Name: "d"})
	if err != nil {
		t.Fatal(err)
	}
	see("b", "c", "d")
	if _, err := f.things.Update(ctx, thing{ID: "2", Name: "renamed"}); err != nil {
		t.Fatal(err)
	}
	see("c", "d", "renamed")
	if got, err := f.things.Get(ctx, made.ID); err != nil || got.Name != "d" {
		t.Errorf("Get of the created thing: %v, %v", got, err)
	}
	if _, err := f.things.Get(ctx, "1"); !errors.Is(err, ErrNotFound) {
		t.Errorf("Get of the deleted thing: %v, want ErrNotFound", err)
	}
	for _, h := range before {
		if !slices.Equal(h.list, h.copied) {
			t.Errorf("the list %v of a reader became %v", h.copied, h.list)
		}
	}
	if n := f.count("list"); n != 1 {
		t.Errorf("%d lists, want 1", n)
	}
}

func TestObjects_listsOfLinkingObjectsAreDropped(t *testing.T) {
	tests := map[string]struct {
		write   func(context.Context, *Objects[thing, thing]) error
		forgets bool
	}{
		"rename": {func(ctx context.Context, o *Objects[thing, thing]) error {
			_, err := o.Update(ctx, thing{ID: "1", Name: "renamed"})
			return err
		}, true},
		"delete": {func(ctx context.Context, o *Objects[thing, thing]) error { return o.Delete(ctx, "1") }, true},
		"create": {func(ctx context.Context, o *Objects[thing, thing]) error {
			_, err := o.Create(ctx, thing{Name: "b"})
			return err
		}, false},
		"a refused change": {func(ctx context.Context, o *Objects[thing, thing]) error {
			if _, err := o.Update(ctx, thing{ID: "none"}); !errors.Is(err, ErrNotFound) {
				return fmt.Errorf("want ErrNotFound, got %w", err)
			}
			return nil
		}, false},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			f, linking := newFakeConsul(t), newFakeConsul(t)
			f.put(thing{ID: "1", Name: "a"})
			f.things.linkedBy = []interface{ forget() }{linking.things}
			linking.mustList(t)
			if err := tt.write(t.Context(), f.things); err != nil {
				t.Fatal(err)
			}
			linking.mustList(t)
			if got := linking.count("list") == 2; got != tt.forgets {
				t.Errorf("forgotten: %v, want %v", got, tt.forgets)
			}
		})
	}
}

// Links follow Consul: they show names, Consul removes a deleted policy or role from what links it, and deletes
// tokens and binding rules with their auth method.
func TestACL_whatLinksWhat(t *testing.T) {
	a := Of(consul.NewConnector(nil).Cluster("ns", "consul"))
	for name, tt := range map[string]struct{ got, want []interface{ forget() } }{
		"policies":      {a.Policies.linkedBy, []interface{ forget() }{a.Roles, a.Tokens}},
		"roles":         {a.Roles.linkedBy, []interface{ forget() }{a.Tokens}},
		"tokens":        {a.Tokens.linkedBy, nil},
		"auth methods":  {a.AuthMethods.linkedBy, []interface{ forget() }{a.BindingRules, a.Tokens}},
		"binding rules": {a.BindingRules.linkedBy, nil},
	} {
		if !slices.Equal(tt.got, tt.want) {
			t.Errorf("%s are linked by %v, want %v", name, tt.got, tt.want)
		}
	}
}

func TestObjects_aFailedListIsNotTriedAgainForAMoment(t *testing.T) {
	for name, tt := range map[string]struct {
		failure, want error
		waits         time.Duration // of the first reader
	}{
		"no leader":       {errNoLeader, ErrUnreachable, listTimeout},
		"no connection":   {errors.New("connection refused"), ErrUnreachable, listTimeout},
		"unknown token":   {errUnknownToken, ErrCredential, 0},
		"a missing right": {answer(403, "Permission denied: token with AccessorID 'x' lacks permission 'acl:read'"), nil, 0},
		"no ACLs":         {answer(401, "ACL support disabled"), ErrACLDisabled, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.failing = always(tt.failure, "list")
				list := func(waits time.Duration) {
					t.Helper()
					start := time.Now()
					_, err := f.things.List(t.Context())
					if err == nil || (tt.want != nil && !errors.Is(err, tt.want)) {
						t.Fatalf("got %v, want %v", err, tt.want)
					}
					if took := time.Since(start); took != waits {
						t.Fatalf("it took %s, want %s", took, waits)
					}
				}
				list(tt.waits)
				asked := f.count("list")
				for range 1000 {
					list(0)
				}
				if n := f.count("list"); n != asked {
					t.Errorf("Consul was asked %d more times", n-asked)
				}
				<-time.After(patience)
				f.failing = nil
				f.mustList(t)
			})
		})
	}
}

func TestObjects_aFailureIsForgotten(t *testing.T) {
	for name, forget := range map[string]func(*testing.T, *fakeConsul){
		"by forget": func(_ *testing.T, f *fakeConsul) { f.things.forget() },
		"by a write that succeeds": func(t *testing.T, f *fakeConsul) {
			if _, err := f.things.Create(t.Context(), thing{Name: "b"}); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.failing = always(errNoLeader, "list")
				if _, err := f.things.List(t.Context()); !errors.Is(err, ErrUnreachable) {
					t.Fatalf("got %v, want ErrUnreachable", err)
				}
				f.failing = nil
				forget(t, f)
				f.mustList(t)
			})
		})
	}
}

// A bootstrap invalidates all lists: the result of a list that started before it does not count.
func TestObjects_aFailureFromBeforeForgetIsNotRemembered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		f.failing = once("list", errUnknownToken)
		release := make(chan struct{})
		f.listing = func(int) { <-release }
		var wg sync.WaitGroup
		wg.Go(func() {
			if _, err := f.things.List(t.Context()); !errors.Is(err, ErrCredential) {
				t.Errorf("got %v, want ErrCredential", err)
			}
		})
		synctest.Wait()
		f.things.forget()
		close(release)
		wg.Wait()
		f.mustList(t)
	})
}

// A write that failed without an answer may have been carried out.
func TestObjects_aWriteWithoutAnAnswerInvalidatesTheList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		f.put(thing{ID: "1", Name: "a"})
		f.mustList(t)
		f.lost = always(errors.New("EOF"), "update")
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if _, err := f.things.Update(ctx, thing{ID: "1", Name: "renamed"}); !errors.Is(err, ErrUnreachable) {
			t.Fatalf("got %v, want ErrUnreachable", err)
		}
		if got := names(f.mustList(t)); !slices.Equal(got, []string{"renamed"}) {
			t.Errorf("the list is %v", got)
		}
	})
}

func TestObjects_reportNoClusterEvenIfTheSecretExists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		for _, err := range []error{
			f.kube.AppsV1().StatefulSets("ns").Delete(t.Context(), server.StatefulSetName("consul"), metav1.DeleteOptions{}),
			f.kube.CoreV1().Pods("ns").Delete(t.Context(), server.PodName("consul", 0), metav1.DeleteOptions{}),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := f.things.List(t.Context()); !errors.Is(err, ErrNoCluster) {
			t.Errorf("got %v, want ErrNoCluster", err)
		}
	})
}

func TestObjects_createFindsAgainWhatItMade(t *testing.T) {
	existing := thing{ID: "1", Name: "a", Content: "x"}
	for name, tt := range map[string]struct {
		lost   error // how the answer to the first create is lost
		before *thing
		owned  bool
		wanted thing
		want   string // ID; "" for ErrExists
	}{
		"nothing exists":                        {wanted: existing, want: "id-1"},
		"the connection broke after the create": {lost: errors.New("EOF"), wanted: existing, want: "id-1"},
		"the leader was lost during the create": {lost: answer(500, "Failed to apply thing upsert request: leadership lost while "+
			"committing log"), wanted: existing, want: "id-1"},
		"the same exists from an earlier run": {before: &existing, wanted: thing{Name: "a", Content: "x"}, want: "1"},
		"another content exists":              {before: &existing, wanted: thing{Name: "a", Content: "y"}},
		"the same exists, of somebody else":   {before: &existing, owned: true, wanted: thing{Name: "a", Content: "x"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.lost = once("create", tt.lost)
				if tt.before != nil {
					f.put(*tt.before)
				}
				if tt.owned {
					f.things.Own(tt.before.ID)
				}
				made, err := f.things.Create(t.Context(), tt.wanted)
				if tt.want == "" {
					if !errors.Is(err, ErrExists) {
						t.Errorf("got %v, %v; want ErrExists", made, err)
					}
				} else if err != nil || made.ID != tt.want {
					t.Errorf("got %v, %v; want ID %s", made, err, tt.want)
				}
				if len(f.stored) != 1 {
					t.Errorf("there are %d things, want 1", len(f.stored))
				}
			})
		})
	}
}

func TestObjects_oneOfTwoCreatesOfTheSameNameWins(t *testing.T) {
	for name, f := range map[string]func() *fakeConsul{
		"Consul refuses the second":   func() *fakeConsul { return newFakeConsul(t) },
		"Consul overwrites the first": func() *fakeConsul { return newFakeConsul(t).upserts() },
		"Consul makes both":           func() *fakeConsul { return newFakeConsul(t).repeats() },
	} {
		t.Run(name, func(t *testing.T) {
			for range 20 {
				f := f()
				find := f.things.find
				f.things.find = func(ctx context.Context, client *api.Client, wanted thing) (*thing, error) {
					found, err := find(ctx, client, wanted)
					<-time.After(time.Millisecond) // lets the other one look too
					return found, err
				}
				errs := make([]error, 2)
				var wg sync.WaitGroup
				for i := range errs {
					wg.Go(func() { _, errs[i] = f.things.Create(t.Context(), thing{Name: "a"}) })
				}
				wg.Wait()
				if errors.Is(errs[0], ErrExists) == errors.Is(errs[1], ErrExists) || (errs[0] != nil && errs[1] != nil) || len(f.stored) != 1 {
					t.Fatalf("got %v and %v; there are %v", errs[0], errs[1], f.stored)
				}
			}
		})
	}
}

// upserts makes create overwrite existing things, as Consul does for auth methods.
func (f *fakeConsul) upserts() *fakeConsul {
	f.things.findFirst = true
	f.things.create = func(_ context.Context, _ *api.Client, o *thing) (*thing, error) {
		m := thing{ID: o.Name, Name: o.Name, Content: o.Content}
		return &m, f.call("create", func() error { f.stored[m.ID] = m; return nil })
	}
	return f
}

// repeats makes a repeated create store another thing, as Consul does for binding rules.
func (f *fakeConsul) repeats() *fakeConsul {
	f.things.findFirst = true
	f.things.create = func(_ context.Context, _ *api.Client, o *thing) (*thing, error) {
		m := *o
		return &m, f.call("create", func() error {
			m.ID = fmt.Sprintf("id-%d", f.calls["create"])
			f.stored[m.ID] = m
			return nil
		})
	}
	return f
}

func TestObjects_findFirstNeverOverwritesNorRepeats(t *testing.T) {
	for name, f := range map[string]func(*testing.T) *fakeConsul{
		"auth methods":  func(t *testing.T) *fakeConsul { return newFakeConsul(t).upserts() },
		"binding rules": func(t *testing.T) *fakeConsul { return newFakeConsul(t).repeats() },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := f(t)
				f.lost = once("create", errors.New("EOF"))
				wanted := thing{Name: "a", Content: "x"}
				made, err := f.things.Create(t.Context(), wanted)
				if err != nil || len(f.stored) != 1 {
					t.Fatalf("after a lost answer: got %v, %v; there are %v", made, err, f.stored)
				}
				for _, content := range []string{"x", "y"} {
					if _, err := f.things.Create(t.Context(), thing{Name: "a", Content: content}); !errors.Is(err, ErrExists) {
						t.Errorf("content %s: got %v, want ErrExists", content, err)
					}
				}
				if len(f.stored) != 1 || f.stored[made.ID].Content != "x" {
					t.Errorf("there are %v", f.stored)
				}
				if err := f.things.Delete(t.Context(), made.ID); err != nil {
					t.Fatal(err)
				}
				if _, err := f.things.Create(t.Context(), wanted); err != nil {
					t.Errorf("creating it again after a delete: %v", err)
				}
			})
		})
	}
}

func TestObjects_aDeleteTrustsOnlyARead(t *testing.T) {
	gone := answer(404, "Cannot find thing to delete")
	for name, tt := range map[string]struct {
		failing func(string) error
		there   bool
		want    error
		deletes int
	}{
		"it exists":  {there: true, deletes: 1},
		"it is gone": {deletes: 1},
		"the token is unknown": {failing: func(call string) error {
			return map[string]error{
				"remove": gone, "read": errUnknownToken,
			}[call]
		}, there: true, want: ErrCredential, deletes: 1},
		"a new leader does not know it yet": {failing: once("remove", gone), there: true, deletes: 2},
		"a forbidden delete, and it exists": {failing: always(answer(403, "Permission denied: token with AccessorID 'x' lacks permission "+
			"'acl:write'"), "remove"), there: true, want: &consul.PermissionError{AccessorID: "x", Permission: "acl:write"}, deletes: 1},
		"a forbidden delete, and it does not": {failing: always(answer(403, "Permission denied: token with AccessorID 'x' lacks permission "+
			"'acl:write'"), "remove"), want: &consul.PermissionError{AccessorID: "x", Permission: "acl:write"}, deletes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.failing = tt.failing
				if tt.there {
					f.put(thing{ID: "1"})
				}
				err := f.things.Delete(t.Context(), "1")
				sameError(t, err, tt.want)
				if _, still := f.stored["1"]; still != (tt.there && tt.want != nil) {
					t.Errorf("still there: %v", still)
				}
				if n := f.count("remove"); n != tt.deletes {
					t.Errorf("%d deletes, want %d", n, tt.deletes)
				}
			})
		})
	}
}

// A new leader that has not applied its log yet does not find what a write refers to. What a second attempt does not
// find either is missing.
func TestObjects_aWriteIsRetriedForALeaderThatCatchesUp(t *testing.T) {
	noPolicy := answer(500, `rpc error making call: No such ACL policy with ID "1"`)
	gone := answer(500, "cannot find thing 1")
	for name, tt := range map[string]struct {
		failing  func(string) error
		isUpdate bool
		want     error
		calls    map[string]int
	}{
		"a create, by a new leader":   {failing: once("create", noPolicy), calls: map[string]int{"create": 2, "find": 1}},
		"a create with a wrong link":  {failing: always(noPolicy, "create"), want: noPolicy, calls: map[string]int{"create": 2, "find": 1}},
		"an update, by a new leader":  {failing: once("update", gone), isUpdate: true, calls: map[string]int{"update": 2, "read": 2}},
		"an update with a wrong link": {failing: always(noPolicy, "update"), isUpdate: true, want: noPolicy, calls: map[string]int{"update": 2, "read": 1}},
		"an update of what is gone":   {failing: always(gone, "update"), isUpdate: true, want: ErrNotFound, calls: map[string]int{"update": 2, "read": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.failing = tt.failing
				var err error
				if tt.isUpdate {
					f.put(thing{ID: "1"})
					_, err = f.things.Update(t.Context(), thing{ID: "1", Content: "other"})
				} else {
					_, err = f.things.Create(t.Context(), thing{Name: "a"})
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("got %v, want %v", err, tt.want)
				}
				for call, want := range tt.calls {
					if got := f.count(call); got != want {
						t.Errorf("%s was called %d times, want %d", call, got, want)
					}
				}
			})
		})
	}
}

// sameError compares what callers base decisions on.
func sameError(t *testing.T, got, want error) {
	t.Helper()
	var wanted, lacks *consul.PermissionError
	switch {
	case errors.As(want, &wanted):
		if !errors.As(got, &lacks) || *lacks != *wanted {
			t.Errorf("got %v, want %v", got, want)
		}
	case want == nil && got != nil, !errors.Is(got, want):
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestACL_aReplacedTokenIsPickedUp(t *testing.T) {
	unless := func(f *fakeConsul, token string, err error) error {
		if f.things.acl.credential == token {
			return nil
		}
		return err
	}
	for name, call := range map[string]func(context.Context, *Objects[thing, thing]) error{
		"list": func(ctx context.Context, o *Objects[thing, thing]) error { _, err := o.List(ctx); return err },
		"read": func(ctx context.Context, o *Objects[thing, thing]) error { _, err := o.Read(ctx, "1"); return err },
		"update": func(ctx context.Context, o *Objects[thing, thing]) error {
			_, err := o.Update(ctx, thing{ID: "1"})
			return err
		},
		"create": func(ctx context.Context, o *Objects[thing, thing]) error {
			_, err := o.Create(ctx, thing{Name: "b"})
			return err
		},
		"delete": func(ctx context.Context, o *Objects[thing, thing]) error { return o.Delete(ctx, "1") },
	} {
		t.Run(name, func(t *testing.T) {
			f := newFakeConsul(t)
			f.put(thing{ID: "1"})
			f.failing = func(call string) error {
				if call == "remove" {
					return unless(f, "second", answer(404, "Cannot find thing to delete"))
				}
				return unless(f, "second", errUnknownToken)
			}
			if err := call(t.Context(), f.things); !errors.Is(err, ErrCredential) {
				t.Fatalf("with the first token: %v, want ErrCredential", err)
			}
			f.things.forget()
			f.setToken(t, "second")
			if err := call(t.Context(), f.things); err != nil {
				t.Fatalf("with the second: %v", err)
			}
			if _, there := f.stored["1"]; there == (name == "delete") {
				t.Errorf("there: %v", there)
			}
		})
	}
}

func TestACL_Do(t *testing.T) {
	t.Run("without a Secret it does not wait", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeConsul(t)
			if err := f.kube.CoreV1().Secrets("ns").Delete(t.Context(), "token", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			_, err := f.things.Read(t.Context(), "1")
			if !errors.Is(err, ErrCredential) || errors.Is(err, ErrUnreachable) || time.Since(start) != 0 {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
		})
	})
	t.Run("it waits for a leader", func(t *testing.T) {
		for _, answers := range []error{
			errNoLeader, answer(500, "rpc error making call: Not ready to serve consistent reads"), answer(429, "rate limit exceeded, try again "+
				"later or against a different server"),
			answer(503, "rate limit exceeded for operation that can only be performed by the leader, try again later"),
			errors.New("connection refused"),
		} {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeConsul(t)
				f.put(thing{ID: "1"})
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				start := time.Now()
				f.failing = func(string) error {
					if time.Since(start) < time.Minute {
						return answers
					}
					return nil
				}
				if _, err := f.things.Read(ctx, "1"); err != nil {
					t.Errorf("%v: %v", answers, err)
				}
				if took := time.Since(start); took > time.Minute+10*time.Second {
					t.Errorf("%v: it noticed only after %s", answers, took-time.Minute)
				}
				if n := f.count("read"); n > 30 {
					t.Errorf("%v: %d reads in a minute", answers, n)
				}
			})
		}
	})
	t.Run("it waits for a server that is away after a write", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeConsul(t)
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			start := time.Now()
			f.failing = func(what string) error {
				if what == "read" && time.Since(start) < 2*readBack {
					return errors.New("connection refused")
				}
				return nil
			}
			if made, err := f.things.Create(ctx, thing{Name: "new"}); err != nil || made.Name != "new" {
				t.Errorf("got %v, %v", made, err)
			}
		})
	})
	t.Run("without a deadline, it does not wait forever", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeConsul(t)
			f.failing = func(string) error { return errNoLeader }
			start := time.Now()
			if _, err := f.things.Read(t.Context(), "1"); !errors.Is(err, ErrUnreachable) || time.Since(start) > listTimeout+10*time.Second {
				t.Errorf("%v after %s", err, time.Since(start))
			}
		})
	})
	t.Run("a refusal ends it", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			f := newFakeConsul(t)
			f.failing = always(answer(500, "Invalid Thing: no Name is set"), "create")
			start := time.Now()
			if _, err := f.things.Create(t.Context(), thing{}); err == nil || time.Since(start) != 0 {
				t.Errorf("got %v after %s", err, time.Since(start))
			}
		})
	})
}

func TestACL_podsAreListedAgainOnlyIfTheyMayHaveChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeConsul(t)
		f.put(thing{ID: "1"})
		lists := func() (n int) {
			for _, a := range f.kube.Actions() {
				if a.Matches("list", "pods") {
					n++
				}
			}
			return n
		}
		read := func() {
			t.Helper()
			if _, err := f.things.Read(t.Context(), "1"); err != nil {
				t.Fatal(err)
			}
		}
		for range 100 {
			read()
		}
		if n := lists(); n != 1 {
			t.Errorf("%d lists for a hundred reads, want 1", n)
		}
		f.failing = once("read", errors.New("connection refused"))
		read()
		if n := lists(); n != 2 {
			t.Errorf("%d lists, want another one after a server could not be reached", n)
		}
		<-time.After(podsAge)
		read()
		if n := lists(); n != 3 {
			t.Errorf("%d lists, want another one after a while", n)
		}
	})
}

func TestACL_rightsAreThoseOfTheCredential(t *testing.T) {
	f := newFakeConsul(t)
	a := f.things.acl
	lacks := &consul.PermissionError{AccessorID: "x", Permission: "acl:write"}
	if _, err := a.token(t.Context(), ""); err != nil {
		t.Fatal(err)
	}
	a.rights["write"] = lacks
	sameError(t, a.Authorize(t.Context(), "write"), lacks)
	f.setToken(t, "second")
	if _, err := a.token(t.Context(), "first"); err != nil {
		t.Fatal(err)
	}
	if len(a.rights) != 0 {
		t.Errorf("the rights are still those of the first token: %v", a.rights)
	}
}

// Consul fills in IDs and names, sorts datacenters, and removes duplicates.
func TestSameRole(t *testing.T) {
	role := func(change func(*api.ACLRole)) api.ACLRole {
		r := api.ACLRole{
			ID: "1", Name: "a", Policies: []*api.ACLLink{{ID: "p1", Name: "one"}, {ID: "p2", Name: "two"}},
			ServiceIdentities: []*api.ACLServiceIdentity{{ServiceName: "web", Datacenters: []string{"dc1", "dc2"}}, {ServiceName: "api"}},
			TemplatedPolicies: []*api.ACLTemplatedPolicy{{TemplateName: "builtin/dns"}},
		}
		change(&r)
		return r
	}
	for name, tt := range map[string]struct {
		change func(*api.ACLRole)
		want   bool
	}{
		"the same":                    {func(*api.ACLRole) {}, true},
		"not created yet":             {func(r *api.ACLRole) { r.ID = "" }, true},
		"linked by name":              {func(r *api.ACLRole) { r.Policies = []*api.ACLLink{{Name: "two"}, {Name: "one"}} }, true},
		"linked by ID":                {func(r *api.ACLRole) { r.Policies = []*api.ACLLink{{ID: "p2"}, {ID: "p1"}} }, true},
		"linked by either, and twice": {func(r *api.ACLRole) { r.Policies = []*api.ACLLink{{ID: "p2"}, {Name: "one"}, {Name: "two"}} }, true},
		"datacenters in any order":    {func(r *api.ACLRole) { r.ServiceIdentities[0].Datacenters = []string{"dc2", "dc1"} }, true},
		"identities in any order":     {func(r *api.ACLRole) { slices.Reverse(r.ServiceIdentities) }, true},
		"no variables":                {func(r *api.ACLRole) { r.TemplatedPolicies[0].TemplateVariables = &api.ACLTemplatedPolicyVariables{} }, true},
		"another name":                {func(r *api.ACLRole) { r.Name = "b" }, false},
		"another description":         {func(r *api.ACLRole) { r.Description = "b" }, false},
		"one policy less":             {func(r *api.ACLRole) { r.Policies = r.Policies[1:] }, false},
		"one policy more":             {func(r *api.ACLRole) { r.Policies = append(r.Policies, &api.ACLLink{Name: "three"}) }, false},
		"another datacenter":          {func(r *api.ACLRole) { r.ServiceIdentities[0].Datacenters = []string{"dc1"} }, false},
		"another service":             {func(r *api.ACLRole) { r.ServiceIdentities[1].ServiceName = "db" }, false},
		"one node more": {func(r *api.ACLRole) {
			r.NodeIdentities = []*api.ACLNodeIdentity{
				{NodeName: "n", Datacenter: "dc1"},
			}
		}, false},
		"another template": {func(r *api.ACLRole) { r.TemplatedPolicies[0].TemplateName = "builtin/node" }, false},
	} {
		if got := SameRole(role(tt.change), role(func(*api.ACLRole) {})); got != tt.want {
			t.Errorf("%s: the same: %v, want %v", name, got, tt.want)
		}
	}
}

// The bodies are those of Consul 1.21.0 and 1.22.7 (TestAccACL_noAnswerToADeadCredentialIsBelieved).
func TestErrors_ofTheACLSystem(t *testing.T) {
	const lacks = "Permission denied: token with AccessorID 'd5a9' lacks permission 'acl:write'"
	kinds := map[string]func(error) bool{
		"unknown credential": consul.IsUnknownCredential, "missing": consul.IsMissing, "update of missing": consul.IsUpdateOfMissing,
		"duplicate": consul.IsDuplicate, "disabled": consul.IsACLDisabled, "transient": isTransient,
		"permission": func(err error) bool { return consul.AsPermissionError(err) != nil },
	}
	for _, tt := range []struct {
		code int
		body string
		want []string
	}{
		{403, "ACL not found", []string{"unknown credential"}},
		{403, "rpc error making call: ACL not found", []string{"unknown credential"}},
		{403, "token does not exist: ACL not found", []string{"missing"}},
		{403, "rpc error making call: token does not exist: ACL not found", []string{"missing"}},
		{403, "token has expired: ACL not found", []string{"missing"}},
		{404, "Requested policy does not exist: ACL not found", []string{"missing"}},
		{404, "Cannot find token to delete", []string{"missing", "update of missing"}},
		{500, `Cannot find token "d5a9"`, []string{"update of missing"}},
		{500, "rpc error making call: cannot find policy d5a9", []string{"update of missing"}},
		{500, `Invalid Policy: A Policy with Name "a" already exists`, []string{"duplicate"}},
		{500, `rpc error making call: Invalid Role: A role with name "a" already exists`, []string{"duplicate"}},
		{500, "Invalid Token: AccessorID is already in use", []string{"duplicate"}},
		{403, lacks, []string{"permission"}},
		{403, "rpc error making call: " + lacks, []string{"permission"}},
		{403, "Permission denied: anonymous token lacks permission 'acl:read'. The anonymous token is used implicitly when a request does not " +
			"specify a token.", []string{"permission"}},
		{401, "ACL support disabled", []string{"disabled"}},
		{429, "rate limit exceeded, try again later or against a different server", []string{"transient"}},
		{503, "rate limit exceeded for operation that can only be performed by the leader, try again later", []string{"transient"}},
		{500, "No cluster leader", []string{"transient"}},
		{500, "rpc error making call: EOF", []string{"transient"}},
		{500, "rpc error making call: session shutdown", []string{"transient"}},
		{500, "rpc error making call: stream closed", []string{"transient"}},
		{500, "rpc error making call: write tcp 10.1.0.4:8300->10.1.0.5:8300: write: broken pipe", []string{"transient"}},
		{500, "Not ready to serve consistent reads", []string{"transient"}},
		{500, "Invalid Policy: no Name is set", nil},
	} {
		var got []string
		for _, kind := range slices.Sorted(maps.Keys(kinds)) {
			if kinds[kind](fmt.Errorf("server consul-server-0: %w", api.StatusError{Code: tt.code, Body: tt.body})) {
				got = append(got, kind)
			}
		}
		if slices.Sort(tt.want); !slices.Equal(got, tt.want) {
			t.Errorf("%d %s: it is %v, want %v", tt.code, tt.body, got, tt.want)
		}
	}
	if p := consul.AsPermissionError(answer(http.StatusForbidden, lacks)); p == nil ||
		*p != (consul.PermissionError{AccessorID: "d5a9", Permission: "acl:write"}) {
		t.Errorf("got %v", p)
	}
	for _, err := range []error{consul.DuplicateError("thing"), consul.UpdateOfMissingError("thing"), consul.UnknownCredentialError()} {
		if isTransient(err) {
			t.Errorf("%v counts as transient", err)
		}
	}
}
