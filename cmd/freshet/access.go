package main

import (
	"errors"
	"strings"

	"github.com/spf13/pflag"

	"freshet/internal/access"
	"freshet/internal/config"
	"freshet/internal/kafka"
)

// accessFlags are the flags that say how a server is reached, the same for each.
func accessFlags(flags *pflag.FlagSet, server, title, variable string, s *access.Settings) {
	name := func(suffix string) string { return server + suffix }
	flags.BoolVar(&s.TLS, name("-tls"), false,
		"TLS to "+title+", whose certificate the system trusts; the other TLS flags imply it")
	flags.StringVar(&s.TLSCA, name("-tls-ca"), "", "file with the certificates, in PEM, that sign those of "+title)
	flags.StringVar(&s.TLSCert, name("-tls-cert"), "", "file with this process's certificate for "+title+", in PEM")
	flags.StringVar(&s.TLSKey, name("-tls-key"), "", "file with the key of that certificate")
	flags.StringVar(&s.TLSName, name("-tls-name"), "", "name in the certificates of "+title+", if not the address's host")
	flags.StringVar(&s.User, name("-user"), "", "user of "+title)
	flags.StringVar(&s.PasswordFile, name("-password-file"), "", "file with the password for "+title+"; without it, the "+
		"password is in "+variable+" in the environment")
}

func kafkaAccessFlags(flags *pflag.FlagSet, s *access.Settings, mechanism *string) {
	accessFlags(flags, "kafka", "Kafka", config.KafkaPasswordVariable, s)
	flags.StringVar(mechanism, "kafka-sasl", config.DefaultKafkaSASL,
		"how the user of Kafka logs in: "+strings.Join(kafka.Mechanisms(), ", "))
}

// settingsAreUsage gives errors of these flags the exit code of wrong usage.
func settingsAreUsage(err error) error {
	if errors.Is(err, access.ErrSettings) || errors.Is(err, kafka.ErrSecurity) {
		return &exitError{exitUsage, err}
	}
	return err
}
