package acl

// Templates exports templates to the test that compares them with Consul's.
var Templates = templates
