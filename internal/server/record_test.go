package server

import (
	"reflect"
	"testing"
	"time"
)

// record has a value in every field.
func record(t *testing.T) Record {
	t.Helper()
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	r := Record{
		Established:     true,
		Creating:        true,
		UpgradeSnapshot: &Snapshot{URL: "s3:https://s3.example.com/consul", ID: "0123abcd", Version: "1.21.0", Index: 7, Size: 9, Time: at},
		Origin:          &Origin{Snapshot: "4567cdef", Version: "1.21.0", Taken: at, Restored: at.Add(time.Hour)},
		Restored:        restoredMark("89ab0123", at),
		FormerConfig:    map[string]string{configKeyOf("0123456789abcdef"): "{}"},
		Resizing:        true,
		Takeover:        &Takeover{Replicas: 3, Join: []string{"10.0.0.1:8301"}},
	}
	for i := range reflect.TypeFor[Record]().NumField() {
		if reflect.ValueOf(r).Field(i).IsZero() {
			t.Fatalf("the record of this test has no %s", reflect.TypeFor[Record]().Field(i).Name)
		}
	}
	return r
}

// What has happened to a cluster is read back from its objects: nothing is lost between two applies.
func TestRecord_isReadBack(t *testing.T) {
	t.Parallel()
	declared := minimal()
	declared.Adopt = &Adopt{StatefulSet: "old"}
	spec := declared
	spec.Record = record(t)
	live := Objects(spec)
	live.StatefulSet.Annotations[AnnotationRestored] = spec.Restored // another field manager writes it (RestoredPatch)
	got, err := Parse(live, declared)
	if err != nil {
		t.Fatal(err)
	}
	for i := range reflect.TypeFor[Record]().NumField() {
		name := reflect.TypeFor[Record]().Field(i).Name
		if a, b := reflect.ValueOf(got.Record).Field(i).Interface(), reflect.ValueOf(spec.Record).Field(i).Interface(); !reflect.DeepEqual(a, b) {
			t.Errorf("%s: read %+v, want %+v", name, a, b)
		}
	}
}

// An update completes the create of a cluster that has had a leader, and keeps the rest of the record.
func TestRecord_Updated(t *testing.T) {
	t.Parallel()
	before := record(t)
	want := before
	want.Creating = false
	if got := before.Updated(false); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	before.Established = false
	if got := before.Updated(false); !got.Creating {
		t.Error("a cluster that never had a leader counts as created")
	}
	before.Origin = &Origin{}
	if got := before.Updated(true); got.Origin == nil {
		t.Error("the snapshot that the update restores is forgotten")
	}
	if got := before.Updated(false); got.Origin != nil {
		t.Error("a snapshot that is no longer declared is restored")
	}
}
