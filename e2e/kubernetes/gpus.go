package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/klog/v2"
	deviceplugin "k8s.io/kubelet/pkg/apis/deviceplugin/v1beta1"
)

const (
	gpuSocketName = "lamplighter-gpus.sock"
	gpuSocket     = deviceplugin.DevicePluginPath + gpuSocketName
)

// gpus is a device plugin for GPUs that do not exist: pods that ask for one are
// scheduled, counted and refused exactly as on a node that has them.
//
// A resource patched onto the node's status would be simpler, but a kubelet without a
// device plugin sets such a resource to zero each time it starts, and then turns away
// the pods that were using it.
type gpus struct {
	deviceplugin.UnimplementedDevicePluginServer
	devices []*deviceplugin.Device
	done    <-chan struct{}
}

func newGPUPluginCommand() *cobra.Command {
	var resource string
	var count int
	command := &cobra.Command{
		Use:          "gpu-plugin",
		Short:        "Offer pretended GPUs to the kubelet of this machine",
		SilenceUsage: true,
		RunE: func(*cobra.Command, []string) error {
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return offer(ctx, resource, count)
		},
	}
	command.Flags().StringVar(&resource, "resource", "nvidia.com/gpu", "name of the resource")
	command.Flags().IntVar(&count, "count", 8, "number of devices")
	return command
}

// offer serves and registers until ctx ends. A starting kubelet deletes every socket in
// the folder and forgets its plugins, so a socket that vanished means: begin again.
func offer(ctx context.Context, resource string, count int) error {
	for {
		err := offerToOneKubelet(ctx, resource, count)
		if ctx.Err() != nil {
			return nil
		}
		klog.InfoS("offering the devices again", "reason", err)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(500 * time.Millisecond):
		}
	}
}

func offerToOneKubelet(ctx context.Context, resource string, count int) error {
	if err := os.MkdirAll(deviceplugin.DevicePluginPath, 0o750); err != nil {
		return err
	}
	if err := os.Remove(gpuSocket); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	listener, err := net.Listen("unix", gpuSocket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	plugin := &gpus{done: ctx.Done()}
	for index := range count {
		plugin.devices = append(plugin.devices, &deviceplugin.Device{
			ID:     fmt.Sprintf("gpu-%d", index),
			Health: deviceplugin.Healthy,
		})
	}
	server := grpc.NewServer()
	deviceplugin.RegisterDevicePluginServer(server, plugin)
	defer server.Stop()
	go func() { _ = server.Serve(listener) }()

	if err := register(ctx, resource); err != nil {
		return err
	}
	klog.InfoS("registered", "resource", resource, "count", count)

	ticker := time.NewTicker(500 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
			if _, err := os.Stat(gpuSocket); err != nil {
				return fmt.Errorf("the kubelet was restarted: %w", err)
			}
		}
	}
}

func register(ctx context.Context, resource string) error {
	connection, err := grpc.NewClient("unix://"+deviceplugin.KubeletSocket,
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	_, err = deviceplugin.NewRegistrationClient(connection).Register(ctx, &deviceplugin.RegisterRequest{
		Version:      deviceplugin.Version,
		Endpoint:     gpuSocketName,
		ResourceName: resource,
		Options:      &deviceplugin.DevicePluginOptions{},
	})
	return err
}

func (g *gpus) GetDevicePluginOptions(context.Context, *deviceplugin.Empty) (*deviceplugin.DevicePluginOptions, error) {
	return &deviceplugin.DevicePluginOptions{}, nil
}

// ListAndWatch reports the devices once and holds the stream open: a closed stream tells
// the kubelet that the devices are gone.
func (g *gpus) ListAndWatch(_ *deviceplugin.Empty, stream grpc.ServerStreamingServer[deviceplugin.ListAndWatchResponse]) error {
	if err := stream.Send(&deviceplugin.ListAndWatchResponse{Devices: g.devices}); err != nil {
		return err
	}
	select {
	case <-g.done:
	case <-stream.Context().Done():
	}
	return nil
}

// Allocate adds nothing to a container: there is no hardware to hand over.
func (g *gpus) Allocate(_ context.Context, request *deviceplugin.AllocateRequest) (*deviceplugin.AllocateResponse, error) {
	response := &deviceplugin.AllocateResponse{}
	for range request.ContainerRequests {
		response.ContainerResponses = append(response.ContainerResponses, &deviceplugin.ContainerAllocateResponse{})
	}
	return response, nil
}
