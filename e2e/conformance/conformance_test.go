// Package conformance holds a server of the OpenFGA API against OpenFGA's own suites.
package conformance

import (
	"os"
	"testing"

	openfgav1 "github.com/openfga/api/proto/openfga/v1"
	"github.com/openfga/openfga/tests/check"
	"github.com/openfga/openfga/tests/listobjects"
	"github.com/openfga/openfga/tests/listusers"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// The server's gRPC address, as `127.0.0.1:8081`.
const addressVariable = "MERIDIAN_TEST_CONFORMANCE_ADDRESS"

// Upstream names its matrices after a datastore and its flags, neither of which a client can tell.
const (
	engine = "remote"
	flags  = "none"
)

func client(t *testing.T) openfgav1.OpenFGAServiceClient {
	t.Helper()
	address := os.Getenv(addressVariable)
	if address == "" {
		t.Fatalf("%s is not set: set it to the gRPC address of the server to test", addressVariable)
	}
	connection, err := grpc.NewClient(
		address,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(watch),
	)
	if err != nil {
		t.Fatalf("%s=%s: %v", addressVariable, address, err)
	}
	t.Cleanup(func() { _ = connection.Close() })
	return openfgav1.NewOpenFGAServiceClient(connection)
}

func TestCheck(t *testing.T) {
	check.RunAllTests(t, client(t))
}

func TestCheckMatrix(t *testing.T) {
	check.RunMatrixTests(t, engine, flags, client(t))
}

func TestListObjects(t *testing.T) {
	listobjects.RunAllTests(t, client(t))
}

func TestListObjectsMatrix(t *testing.T) {
	listobjects.RunMatrixTests(t, engine, flags, client(t))
}

func TestListUsers(t *testing.T) {
	listusers.RunAllTests(t, client(t))
}
