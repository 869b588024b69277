package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvmigrate/kvmigrate/migrate"
	"github.com/kvmigrate/kvmigrate/migrate/statushttp"
	"github.com/kvmigrate/kvmigrate/store"
)

// upServing runs the migrations up to target, and serves how far they are until
// they end.
func (a *app) upServing(cmd *cobra.Command, target uint32, address string) error {
	if err := checkAddress(cmd.Context(), address); err != nil {
		return usage(fmt.Errorf("--http: %w", err))
	}
	// An address that cannot be had must not leave a new store behind.
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("--http: %w; nothing was changed", err)
	}
	defer func() { _ = listener.Close() }() // the server may have
	return a.withStore(cmd, false, func(ctx context.Context, st store.Store, o migrate.Options) error {
		h, err := statushttp.New(st, o)
		if err != nil {
			return err
		}
		defer serve(ctx, listener, h, o.Logger)()
		report, err := h.UpTo(ctx, target)
		return a.printReport(cmd.OutOrStdout(), report, err)
	})
}

// checkAddress reports why nobody can listen at address, on whatever machine.
func checkAddress(ctx context.Context, address string) error {
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.DefaultResolver.LookupPort(ctx, "tcp", port)
	}
	return err
}

// serve serves h until stop is called, which lets requests that have begun end, for
// a second. That it cannot serve is no reason to stop migrating.
func serve(ctx context.Context, listener net.Listener, h http.Handler, log *slog.Logger) (stop func()) {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn)}
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			log.WarnContext(ctx, fmt.Sprintf("nobody sees how far the migration is: %v", err))
		}
	}()
	log.InfoContext(ctx, fmt.Sprintf("how far it is: http://%s/", listener.Addr()))
	return func() {
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if server.Shutdown(ending) != nil {
			_ = server.Close() // on clients that took too long
		}
		<-done
	}
}
