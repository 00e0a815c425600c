package conformance

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	openfgav1 "github.com/openfga/api/proto/openfga/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/encoding/protowire"
)

// When set, half of each model's types are made Critical: those that an edge holds.
const tiersVariable = "MERIDIAN_TEST_CONFORMANCE_TIERS"

// How long the edge may take to hold what it is to hold.
const arrival = 30 * time.Second

// How many unary calls were answered by whom, by method and node.
var served = struct {
	sync.Mutex
	counts map[string]int
}{counts: map[string]int{}}

func TestMain(m *testing.M) {
	code := m.Run()
	for _, by := range slices.Sorted(maps.Keys(served.counts)) {
		fmt.Printf("served %s %d\n", by, served.counts[by])
	}
	os.Exit(code)
}

// Counts who answers, and assigns tiers once a model is written.
func watch(
	ctx context.Context, method string, request, reply any,
	connection *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	var header, trailer metadata.MD
	err := invoke(ctx, method, request, reply, connection, append(options, grpc.Header(&header), grpc.Trailer(&trailer))...)
	// An error without an answer's headers has its own among the trailers.
	by := append(header.Get("meridian-served-by"), trailer.Get("meridian-served-by")...)
	if len(by) > 0 {
		served.Lock()
		served.counts[method[strings.LastIndex(method, "/")+1:]+" "+by[0]]++
		served.Unlock()
	}
	model, written := request.(*openfgav1.WriteAuthorizationModelRequest)
	if err != nil || !written || os.Getenv(tiersVariable) == "" {
		return err
	}
	return assignTiers(ctx, connection, model)
}

// Makes half of the types Critical, those with most relations: types without any have no tuples. Returns once the edge holds
// them.
func assignTiers(ctx context.Context, connection *grpc.ClientConn, model *openfgav1.WriteAuthorizationModelRequest) error {
	relations := func(definition *openfgav1.TypeDefinition) int { return len(definition.GetRelations()) }
	definitions := slices.SortedStableFunc(
		slices.Values(model.GetTypeDefinitions()),
		func(a, b *openfgav1.TypeDefinition) int { return cmp.Compare(relations(b), relations(a)) },
	)
	critical := definitions[:(len(definitions)+1)/2]
	var tiers []byte
	for _, definition := range critical {
		tiers = protowire.AppendTag(tiers, 1, protowire.BytesType)
		tiers = protowire.AppendString(tiers, definition.GetType())
	}
	// A meridian.v1.AssignTiersRequest.
	request := protowire.AppendTag(nil, 1, protowire.BytesType)
	request = protowire.AppendString(request, model.GetStoreId())
	request = protowire.AppendTag(request, 2, protowire.BytesType)
	request = protowire.AppendBytes(request, tiers)
	var reply []byte
	err := connection.Invoke(ctx, "/meridian.v1.AdminService/AssignTiers", &request, &reply, grpc.ForceCodec(encoded{}))
	if err != nil {
		return err
	}
	for _, definition := range critical {
		for relation := range definition.GetRelations() {
			if err := isHeld(ctx, connection, model.GetStoreId(), definition.GetType(), relation); err != nil {
				return err
			}
			break
		}
	}
	return nil
}

// Waits until the edge itself expands a relation: it then holds every tuple of the type.
func isHeld(ctx context.Context, connection *grpc.ClientConn, store, objectType, relation string) error {
	ctx, cancel := context.WithTimeout(ctx, arrival)
	defer cancel()
	question := &openfgav1.ExpandRequest{
		StoreId:  store,
		TupleKey: &openfgav1.ExpandRequestTupleKey{Object: objectType + ":any", Relation: relation},
	}
	for {
		var header metadata.MD
		if _, err := openfgav1.NewOpenFGAServiceClient(connection).Expand(ctx, question, grpc.Header(&header)); err != nil {
			return fmt.Errorf("the edge does not come to hold the type %s: %w", objectType, err)
		}
		if by := header.Get("meridian-served-by"); len(by) > 0 && strings.HasPrefix(by[0], "edge/") {
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Messages that are encoded already.
type encoded struct{}

func (encoded) Marshal(message any) ([]byte, error) {
	return *message.(*[]byte), nil
}

func (encoded) Unmarshal(data []byte, message any) error {
	*message.(*[]byte) = data
	return nil
}

func (encoded) Name() string {
	return "proto"
}
