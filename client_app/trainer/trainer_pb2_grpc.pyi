"""Types of the generated gRPC classes, which the generator does not write."""

import grpc

from client_app.trainer import trainer_pb2 as pb

class TrainerStub:
    Describe: grpc.UnaryUnaryMultiCallable[pb.Request, pb.DescribeAnswer]
    Train: grpc.UnaryUnaryMultiCallable[pb.Request, pb.TrainAnswer]
    Evaluate: grpc.UnaryUnaryMultiCallable[pb.Request, pb.EvaluateAnswer]
    Status: grpc.UnaryUnaryMultiCallable[pb.StatusRequest, pb.StatusAnswer]
    def __init__(self, channel: grpc.Channel) -> None: ...

class TrainerServicer:
    def Describe(self, request: pb.Request, context: grpc.ServicerContext) -> pb.DescribeAnswer: ...
    def Train(self, request: pb.Request, context: grpc.ServicerContext) -> pb.TrainAnswer: ...
    def Evaluate(self, request: pb.Request, context: grpc.ServicerContext) -> pb.EvaluateAnswer: ...
    def Status(self, request: pb.StatusRequest, context: grpc.ServicerContext) -> pb.StatusAnswer: ...

def add_TrainerServicer_to_server(servicer: TrainerServicer, server: grpc.Server) -> None: ...
